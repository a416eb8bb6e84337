/**
 * EDUs on their way to other servers: sent now, or dropped.
 *
 * Source: "EDUs" of the specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer } from "effect"
import { Peers } from "./Peers.ts"

export interface OutgoingEdu {
  readonly destination: ServerName
  /** Such as `m.presence_invite`. */
  readonly edu_type: string
  readonly content: JsonObject
}

export class OutgoingEdus extends Context.Service<
  OutgoingEdus,
  {
    /** Hands the EDU over and does not wait for it to arrive. */
    readonly send: (edu: OutgoingEdu) => Effect.Effect<void>
  }
>()("greenroom/actors/OutgoingEdus") {
  static readonly layer = Layer.effect(
    OutgoingEdus,
    Effect.map(Peers, (peers) => ({
      send: ({ destination, ...edu }: OutgoingEdu) => peers.queueEdus(destination, [edu])
    }))
  )
  /** For a server without federation: sends nothing. */
  static readonly layerNowhere = Layer.succeed(OutgoingEdus, {
    send: ({ destination, edu_type }) => Effect.logDebug(`No federation: ${edu_type} for ${destination} is dropped`)
  })
}
