/**
 * `keys/changes`: whose keys changed between two tokens of `/sync`.
 *
 * Source: "Tracking the device list for a user" of the client-server specification.
 */
import { InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import { type DeviceListNews, DeviceListStore } from "@greenroom/store/DeviceListStore"
import { EventLog } from "@greenroom/store/EventLog"
import { laterPosition } from "@greenroom/store/StreamToken"
import { Context, Effect, Layer } from "effect"
import type { Session } from "../runtime/Session.ts"
import { makeReadToken } from "../runtime/StreamTokens.ts"

const make = Effect.gen(function* () {
  const log = yield* EventLog
  const lists = yield* DeviceListStore
  const readToken = yield* makeReadToken

  const position = (name: string, token: string) =>
    Effect.mapBoth(readToken(token), {
      onSuccess: ({ position }) => position,
      onFailure: ({ reason }) => new InvalidParam({ error: `${name}: ${reason}` })
    })

  // Changes after `to` would be sent again later: a row keeps the position of the last change alone.
  const changes = Effect.fn("DeviceLists.changes")(function* (
    { userId }: Session,
    from: string,
    to: string
  ): Effect.fn.Return<DeviceListNews, MatrixError> {
    const after = yield* position("from", from)
    const upTo = laterPosition(yield* position("to", to), yield* log.currentPosition)
    return yield* lists.news(userId, { after, upTo })
  })

  return DeviceLists.of({ changes })
})

/** Users whose devices changed between two tokens. */
export class DeviceLists extends Context.Service<
  DeviceLists,
  {
    /** The changes between two tokens, or after the first. Errors: M_INVALID_PARAM. */
    readonly changes: (session: Session, from: string, to: string) => Effect.Effect<DeviceListNews, MatrixError>
  }
>()("greenroom/actors/DeviceLists") {
  static readonly layer = Layer.effect(DeviceLists, make)
}
