/**
 * The users that a user ignores. Their messages and invitations are left out of the answers to clients, and cause no notifications.
 * Their state events are not left out: without these the state of the room would be wrong.
 *
 * Source: "Ignoring Users" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { Effect, Option } from "effect"

/** The users that a user ignores. */
export type IgnoredUsers = ReadonlySet<UserId>

/** The ignored users of a user without any. */
export const nobody: IgnoredUsers = new Set()

/** Nobody ignores themselves. */
const usersOf = ({ ignored_users: users }: JsonObject, by: UserId): IgnoredUsers =>
  isJsonObject(users) ? new Set((Object.keys(users) as Array<UserId>).filter((userId) => userId !== by)) : nobody

/** Whether an event is one that the user does not get. */
const isIgnored = (ignored: IgnoredUsers, { sender, state_key }: Pick<Event, "sender" | "state_key">): boolean =>
  state_key === undefined && ignored.has(sender)

/** The entries whose events the user gets. */
export const withoutIgnored = <A extends { readonly event: Event }>(
  ignored: IgnoredUsers,
  entries: ReadonlyArray<A>
): ReadonlyArray<A> => (ignored.size === 0 ? entries : entries.filter(({ event }) => !isIgnored(ignored, event)))

export const makeIgnoredUsers = Effect.gen(function* () {
  const store = yield* AccountDataStore

  const of = (userId: UserId): Effect.Effect<IgnoredUsers> =>
    Effect.map(store.get(userId, undefined, "m.ignored_user_list"), (content) =>
      Option.match(content, { onNone: () => nobody, onSome: (list) => usersOf(list, userId) })
    )

  return { of }
})
