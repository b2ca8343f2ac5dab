using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;

/// <summary>Keeps a till's orders in a folder and sends them, oldest first.</summary>
public sealed class TillOutbox
{
    // One client for the life of the program: its connections are kept alive.
    private readonly HttpClient client;
    private readonly string folder;

    public TillOutbox(string folder, Uri relay, string key)
    {
        this.folder = folder;
        Directory.CreateDirectory(folder);
        client = new HttpClient { BaseAddress = relay, Timeout = TimeSpan.FromSeconds(30) };
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
    }

    /// <summary>Keeps an order; when this returns it is on disk.</summary>
    public void Put(object order)
    {
        var path = Path.Combine(folder, $"{DateTime.UtcNow.Ticks:D20}-{Guid.NewGuid():N}.json");
        using (var file = new FileStream(path + ".new", FileMode.CreateNew))
        {
            JsonSerializer.Serialize(file, order);
            file.Flush(flushToDisk: true);
        }
        File.Move(path + ".new", path);
    }

    /// <summary>Sends what is kept. Returns how long to wait before the next call.</summary>
    public async Task<TimeSpan> SendAsync(CancellationToken stop)
    {
        var later = TimeSpan.FromSeconds(30);
        foreach (var path in Directory.GetFiles(folder, "*.json").Order(StringComparer.Ordinal))
        {
            var text = await File.ReadAllTextAsync(path, stop);
            using var body = new StringContent(text, Encoding.UTF8, "application/json");
            try
            {
                using var answer = await client.PostAsync("v1/beacon/conversion", body, stop);
                switch ((int)answer.StatusCode)
                {
                    case 202:
                        File.Delete(path);
                        break;
                    case 408 or 429 or 500 or 502 or 503 or 504:
                        return answer.Headers.RetryAfter?.Delta ?? later;
                    case 401 or 403 or 404 or 405 or 415:
                        // Nothing is wrong with the order: a person mends key or address.
                        Console.Error.WriteLine($"the relay answers {(int)answer.StatusCode}");
                        return TimeSpan.FromMinutes(15);
                    default:
                        // 400, 413, 422: set aside with the answer, and go on with the next.
                        var why = await answer.Content.ReadAsStringAsync(stop);
                        await File.WriteAllTextAsync(path + ".answer", why, stop);
                        File.Move(path, path + ".refused");
                        break;
                }
            }
            catch (Exception fault) when (fault is HttpRequestException
                || (fault is TaskCanceledException && !stop.IsCancellationRequested))
            {
                return later;
            }
        }
        return later;
    }
}
