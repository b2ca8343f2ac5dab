import Foundation

/// Sends events with a background `URLSession`: the system goes on when the app is suspended, and
/// starts it again when an upload ended.
final class BeaconUploads: NSObject, URLSessionDataDelegate {
    static let shared = BeaconUploads()

    private let relay = URL(string: "https://relay.shop.example")!
    private lazy var session: URLSession = {
        let configuration = URLSessionConfiguration.background(withIdentifier: "beacon-relay")
        configuration.isDiscretionary = false
        configuration.sessionSendsLaunchEvents = true
        return URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
    }()
    private lazy var folder: URL = {
        let base = FileManager.default.urls(for: .applicationSupportDirectory, in: .userDomainMask)[0]
        let folder = base.appendingPathComponent("beacon-outbox", isDirectory: true)
        try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }()

    /// `eventURL` is what the ad server gave, and stays as it is.
    func send(eventURL: String, userID: String?, sessionID: String) throws {
        var event: [String: Any] = ["event_url": eventURL, "session_id": sessionID]
        if let userID { event["user_id"] = userID }
        // A background upload reads a file, which must stay until it was answered.
        let file = folder.appendingPathComponent(UUID().uuidString + ".json")
        try JSONSerialization.data(withJSONObject: event).write(to: file, options: .atomic)
        upload(file, after: 0)
    }

    /// Call at each start: what no task carries any more is sent again.
    func resume() {
        session.getAllTasks { tasks in
            let carried = Set(tasks.compactMap(\.taskDescription))
            let files = try? FileManager.default.contentsOfDirectory(atPath: self.folder.path)
            for name in files ?? [] where !carried.contains(name) {
                self.upload(self.folder.appendingPathComponent(name), after: 0)
            }
        }
    }

    private func upload(_ file: URL, after seconds: TimeInterval) {
        var request = URLRequest(url: relay.appendingPathComponent("v1/events"))
        request.httpMethod = "POST"
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        request.setValue(file.lastPathComponent, forHTTPHeaderField: "Idempotency-Key")
        let task = session.uploadTask(with: request, fromFile: file)
        task.taskDescription = file.lastPathComponent
        task.earliestBeginDate = Date(timeIntervalSinceNow: seconds)
        task.resume()
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: Error?) {
        guard let name = task.taskDescription else { return }
        let file = folder.appendingPathComponent(name)
        let answer = task.response as? HTTPURLResponse
        switch error == nil ? answer?.statusCode : nil {
        case 202:
            try? FileManager.default.removeItem(at: file)
        case nil, 408, 429, 500, 502, 503, 504:
            let told = answer?.value(forHTTPHeaderField: "Retry-After").flatMap(TimeInterval.init)
            upload(file, after: told ?? 30)
        case 401, 403:
            // A person must mend the configuration; `resume` sends it at the next start.
            break
        default:
            // It will never pass as it is. Tell your crash reporter the status, not the body.
            try? FileManager.default.removeItem(at: file)
        }
    }
}
