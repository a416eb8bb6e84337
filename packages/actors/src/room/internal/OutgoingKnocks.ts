/**
 * Knocks of our users on rooms of other servers.
 *
 * Source: "Knocking upon a room" of the server-server specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Effect, Fiber } from "effect"
import { RemoteRooms } from "../RemoteRooms.ts"
import { readStrippedState } from "../StrippedState.ts"
import type { OutgoingHandshakes } from "./OutgoingHandshakes.ts"
import { type OutsideMemberships, withShown } from "./OutsideMemberships.ts"
import type { RoomIntake } from "./RoomIntake.ts"
import type { RoomWriter } from "./RoomWriter.ts"

export const makeOutgoingKnocks = Effect.fnUntraced(function* (
  { load, roomId, withNids }: RoomWriter,
  { intakeLock }: RoomIntake,
  { logOutside, prepare }: OutsideMemberships,
  { complete, firstOf, forkRequest }: OutgoingHandshakes
) {
  const remote = yield* RemoteRooms
  const unfinished = yield* UnfinishedMembershipStore

  const knockRemotely = (userId: UserId, content: JsonObject, servers: ReadonlyArray<ServerName>) =>
    Effect.flatMap(
      forkRequest(
        firstOf(servers, (server) =>
          Effect.gen(function* () {
            const { event, version } = yield* complete(server, "knock", userId, content)
            const { shown } = yield* remote.sendMembership(server, version, "knock", event)
            yield* unfinished.put({ roomId, userId, membership: "knock", servers: [server], content: {} })
            const { events, fault } = yield* readStrippedState(version, roomId, shown, (pdus) =>
              remote.verify(version, pdus, server)
            )
            if (fault !== undefined) {
              yield* Effect.logWarning(
                `${server} answered a knock on ${roomId} with a faulty knock_room_state: ${fault}`
              )
            }
            return { event: withShown(event, events), version }
          })
        )
      ),
      Fiber.join
    ).pipe(
      Effect.flatMap(({ event, version }) =>
        intakeLock.withPermits(1)(
          Effect.gen(function* () {
            yield* prepare(version.id)
            const room = yield* load
            if (!room.isOurs) yield* yield* withNids(1, () => logOutside(room, event, userId))
            return { event_id: event.event_id }
          })
        )
      )
    )

  return { knockRemotely }
})
