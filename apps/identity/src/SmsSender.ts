/**
 * Sends text messages. Providers have no common protocol, so the sender is a service that can be replaced:
 * `Layer.succeed(SmsSender, Option.some((message) => ...))`. The default one posts every message to a web service of the operator:
 *
 *     POST <url>
 *     Authorization: <authorization>, if configured
 *     Content-Type: application/json
 *
 *     {"to": "+4915112345678", "from": "Greenroom", "text": "123456 is your code ..."}
 *
 * A status from 200 to 299 means that the message was accepted; redirects are not followed.
 */
import { MessageSendError } from "@greenroom/protocol/identity/IdentityError"
import { Context, Data, Effect, Layer, Option, Redacted } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"

interface SmsMessage {
  /** The number with its leading `+` (E.164). */
  readonly to: string
  readonly text: string
}

export interface SmsWebhookOptions {
  readonly url: string
  /** The value of the Authorization header. */
  readonly authorization?: Redacted.Redacted | undefined
  /** The sender shown in the message. */
  readonly from?: string | undefined
}

/** How long the web service may take. */
const requestTimeout = "15 seconds"

const notSent = new MessageSendError({ error: "The text message could not be sent" })

class Refused extends Data.TaggedError("Refused")<{ readonly status: number }> {}

const make = Effect.fnUntraced(function* (options: SmsWebhookOptions) {
  const client = yield* HttpClient.HttpClient
  const request = HttpClientRequest.post(options.url).pipe(
    HttpClientRequest.setHeaders(
      options.authorization === undefined ? {} : { authorization: Redacted.value(options.authorization) }
    )
  )
  return Option.some(({ text, to }: SmsMessage) =>
    client
      .execute(
        HttpClientRequest.bodyJsonUnsafe(request, {
          to,
          ...(options.from === undefined ? {} : { from: options.from }),
          text
        })
      )
      .pipe(
        Effect.flatMap(({ status }) =>
          status >= 200 && status < 300 ? Effect.void : Effect.fail(new Refused({ status }))
        ),
        Effect.scoped,
        Effect.timeout(requestTimeout),
        Effect.tapError((error) =>
          Effect.logWarning(
            `A text message could not be sent: ${error._tag === "Refused" ? `status ${error.status}` : error._tag}`
          )
        ),
        Effect.mapError(() => notSent)
      )
  )
})

export class SmsSender extends Context.Service<
  SmsSender,
  /** Absent if no sender is configured. Errors: M_MESSAGE_SEND_ERROR. */
  Option.Option<(message: SmsMessage) => Effect.Effect<void, MessageSendError>>
>()("greenroom/identity/SmsSender") {
  /** Posts messages to a web service. Without options none are sent. */
  static readonly layer = (
    options: SmsWebhookOptions | undefined
  ): Layer.Layer<SmsSender, never, HttpClient.HttpClient> =>
    Layer.effect(SmsSender, options === undefined ? Effect.succeedNone : make(options))
}
