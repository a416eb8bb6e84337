/**
 * The last presence of users: from the ephemeral stream of this node, or offline as the store knows them.
 */
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { PresenceStore, type StoredPresence } from "@greenroom/store/PresenceStore"
import { ProfileStore, type PublicProfile } from "@greenroom/store/ProfileStore"
import { Effect } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { EphemeralStream, type PresenceValue } from "../EphemeralStream.ts"

export const makeLastValues = Effect.gen(function* () {
  const stream = yield* EphemeralStream
  const store = yield* PresenceStore
  const profiles = yield* ProfileStore
  const { serverName } = yield* HomeServerConfig

  const offline = (userId: UserId, profile: PublicProfile | undefined, stored: StoredPresence | undefined) => ({
    user_id: userId,
    state: "offline",
    presence: "offline",
    ...profile,
    ...(stored?.last_active_at === undefined ? {} : { last_active_at: stored.last_active_at })
  })

  return Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>, viewer: UserId | undefined) {
    const known = userIds.map((userId): PresenceValue | undefined => stream.presence(userId, viewer))
    const absent = userIds.filter((_, index) => known[index] === undefined)
    if (absent.length === 0) return known as ReadonlyArray<PresenceValue>
    const [ours, others] = [
      absent.filter((userId) => serverNameOf(userId) === serverName),
      absent.filter((userId) => serverNameOf(userId) !== serverName)
    ]
    const [stored, profile, memberProfile] = yield* Effect.all(
      [store.many(ours), profiles.publicProfiles(ours), profiles.memberProfiles(others)],
      { concurrency: 3 }
    )
    return userIds.map(
      (userId, index): PresenceValue =>
        known[index] ?? offline(userId, profile.get(userId) ?? memberProfile.get(userId), stored.get(userId))
    )
  })
})
