/**
 * The users whose presence a server may see: those who share a room with one of its users, and those who accepted one of its
 * users into a presence list. The same holds in both directions, for our users and for those of other servers.
 *
 * Source: "Presence and Permissions" of the draft.
 */
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { Effect } from "effect"

/** Returns those of the users whose presence users of the viewing server may see. */
export const makePresenceVisibility = Effect.gen(function* () {
  const roomServers = yield* RoomServerStore
  const lists = yield* PresenceListStore

  return Effect.fnUntraced(function* (viewing: ServerName, userIds: ReadonlyArray<UserId>) {
    const sharing = yield* roomServers.sharing(viewing, userIds)
    const others = userIds.filter((userId) => !sharing.has(userId))
    if (others.length === 0) return sharing
    const observers = yield* lists.observersOfAll(others)
    const accepting = others.filter((userId) =>
      observers.get(userId)?.some((observer) => serverNameOf(observer) === viewing)
    )
    return new Set([...sharing, ...accepting])
  })
})
