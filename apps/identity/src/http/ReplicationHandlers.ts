/**
 * Pushes of peers over HTTP. A push also ends the back-off of the sender to that peer.
 *
 * Source: "Identity" of the draft.
 */
import { IdentityApi } from "@greenroom/protocol/identity/IdentityApi"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { ReplicationReceiver } from "../ReplicationReceiver.ts"
import { ReplicationSender } from "../ReplicationSender.ts"

export const replicationHandlers = HttpApiBuilder.group(IdentityApi, "replication", (handlers) =>
  Effect.gen(function* () {
    const receiver = yield* ReplicationReceiver
    const sender = yield* ReplicationSender
    return handlers.handle("push", ({ payload }) =>
      Effect.gen(function* () {
        const { answer, peer } = yield* receiver.receive(payload as unknown as JsonObject)
        yield* sender.wake(peer.name)
        return answer
      })
    )
  })
)
