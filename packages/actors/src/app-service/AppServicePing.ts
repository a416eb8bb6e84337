/**
 * Pinging an application service on its own request, so that it learns whether this server reaches it.
 *
 * Source: "Pinging" of the application service API.
 */
import {
  BadStatus,
  ConnectionFailed,
  ConnectionTimeout,
  Forbidden,
  type MatrixError,
  UrlNotSet
} from "@greenroom/protocol/MatrixError"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Context, Effect, Layer } from "effect"
import type { Session } from "../runtime/Session.ts"
import { AppServiceClient, endpoints } from "./AppServiceClient.ts"
import { AppServices } from "./AppServices.ts"

/** How much of a bad answer is given back, in characters. */
const maxBody = 1_000

const make = Effect.gen(function* () {
  const services = yield* AppServices
  const client = yield* AppServiceClient

  const ping = Effect.fn("AppServicePing.ping")(function* (session: Session, id: string, transactionId?: string) {
    const service = session.appService === id ? services.withId(id) : undefined
    if (service === undefined)
      return yield* new Forbidden({ error: "The access token does not belong to this application service" })
    if (service.url === undefined)
      return yield* new UrlNotSet({ error: "The registration of the application service has no URL" })
    const began = yield* monotonicMillis
    const body = transactionId === undefined ? {} : { transaction_id: transactionId }
    const answer = yield* Effect.mapError(
      client.request(service, endpoints.ping, { method: "POST", body }),
      ({ isTimeout, reason }): MatrixError =>
        isTimeout ? new ConnectionTimeout({ error: reason }) : new ConnectionFailed({ error: reason })
    )
    if (answer.status !== 200) {
      return yield* new BadStatus({
        error: `The application service answered with status ${answer.status}`,
        status: answer.status,
        body: answer.text.slice(0, maxBody)
      })
    }
    return { duration_ms: Math.round((yield* monotonicMillis) - began) }
  })

  return AppServicePing.of({ ping })
})

/** Pings an application service on its request. */
export class AppServicePing extends Context.Service<
  AppServicePing,
  {
    /** The service itself. Errors: M_FORBIDDEN, M_URL_NOT_SET, M_BAD_STATUS, M_CONNECTION_FAILED, M_CONNECTION_TIMEOUT. */
    readonly ping: (
      session: Session,
      id: string,
      transactionId?: string
    ) => Effect.Effect<{ readonly duration_ms: number }, MatrixError>
  }
>()("greenroom/actors/AppServicePing") {
  static readonly layer = Layer.effect(AppServicePing, make)
}
