/**
 * EDUs that must arrive, from services of this server: stored, then sent in order.
 *
 * Source: "EDUs" of the server-server specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { Context, Effect, Layer } from "effect"
import { Peers } from "./Peers.ts"

/** An EDU and its destinations. */
export interface OutgoingEdu {
  readonly destination: ServerName
  /** Such as `m.presence_invite`. */
  readonly edu_type: string
  readonly content: JsonObject
}

const make = Effect.gen(function* () {
  const store = yield* OutgoingEduStore
  const peers = yield* Peers
  return OutgoingEdus.of({
    send: ({ content, destination, edu_type }) =>
      Effect.andThen(store.add(destination, edu_type, content), peers.wake([destination]))
  })
})

/** Stores EDUs that must arrive and has them sent in order. */
export class OutgoingEdus extends Context.Service<
  OutgoingEdus,
  {
    /** Does not wait until the EDU arrives; it waits for a server that cannot be reached. */
    readonly send: (edu: OutgoingEdu) => Effect.Effect<void>
  }
>()("greenroom/actors/OutgoingEdus") {
  static readonly layer = Layer.effect(OutgoingEdus, make)
  /** For a server without federation: sends nothing. */
  static readonly layerNowhere = Layer.succeed(OutgoingEdus, {
    send: ({ destination, edu_type }) => Effect.logDebug(`No federation: ${edu_type} for ${destination} is dropped`)
  })
}
