package shop.example.beacon

import android.content.Context
import androidx.work.BackoffPolicy
import androidx.work.Constraints
import androidx.work.CoroutineWorker
import androidx.work.NetworkType
import androidx.work.OneTimeWorkRequestBuilder
import androidx.work.WorkManager
import androidx.work.WorkerParameters
import androidx.work.workDataOf
import java.io.IOException
import java.util.UUID
import java.util.concurrent.TimeUnit
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext
import okhttp3.MediaType.Companion.toMediaType
import okhttp3.OkHttpClient
import okhttp3.Request
import okhttp3.RequestBody.Companion.toRequestBody
import org.json.JSONObject

/** Sends one event. WorkManager keeps it over restarts of the app and of the phone. */
class BeaconWorker(context: Context, parameters: WorkerParameters) :
    CoroutineWorker(context, parameters) {

    override suspend fun doWork(): Result = withContext(Dispatchers.IO) {
        val event = inputData.getString(EVENT) ?: return@withContext Result.failure()
        val request = Request.Builder()
            .url("$RELAY/v1/events")
            // The same for every try, so that a try whose answer was lost counts once.
            .header("Idempotency-Key", id.toString())
            .post(event.toRequestBody(JSON))
            .build()
        try {
            client.newCall(request).execute().use { answer ->
                when (answer.code) {
                    202 -> Result.success()
                    // WorkManager waits at least 30 s, longer each time.
                    408, 429, 500, 502, 503, 504 -> Result.retry()
                    // 401 and 403 are for a person to mend; until then the event is kept.
                    401, 403 -> Result.retry()
                    // It will never pass as it is.
                    else -> Result.failure()
                }
            }
        } catch (_: IOException) {
            Result.retry()
        }
    }

    companion object {
        private const val RELAY = "https://relay.shop.example"
        private const val EVENT = "event"
        private val JSON = "application/json".toMediaType()
        // One client: its connections are kept alive between events.
        private val client = OkHttpClient.Builder().callTimeout(30, TimeUnit.SECONDS).build()

        /** [eventUrl] is what the ad server gave, and stays as it is. */
        fun send(context: Context, eventUrl: String, userId: String?, sessionId: String) {
            val event = JSONObject().put("event_url", eventUrl).put("session_id", sessionId)
            userId?.let { event.put("user_id", it) }
            val online = Constraints.Builder().setRequiredNetworkType(NetworkType.CONNECTED).build()
            val work = OneTimeWorkRequestBuilder<BeaconWorker>()
                .setId(UUID.randomUUID())
                .setConstraints(online)
                .setBackoffCriteria(BackoffPolicy.EXPONENTIAL, 30, TimeUnit.SECONDS)
                .setInputData(workDataOf(EVENT to event.toString()))
                .build()
            WorkManager.getInstance(context).enqueue(work)
        }
    }
}
