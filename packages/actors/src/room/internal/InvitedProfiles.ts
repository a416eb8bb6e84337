/**
 * Names and avatars in invitations: members see whom somebody has invited, and clients name a conversation of two after the invited user
 * before the user has joined.
 *
 * Source: "m.room.member" of the client-server specification.
 */
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { ProfileStore, type PublicProfile, profileOfMember } from "@greenroom/store/ProfileStore"
import { Effect } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { RemoteDirectory } from "../RemoteDirectory.ts"

/** How long an invitation waits for the profile of a user of another server. */
const profileTimeout = "2 seconds"
/** How many profiles of other servers are asked for at once. */
const askedAtOnce = 8
/** The longest name and URL that are taken over from another server, in UTF-16 code units. */
const maxLength = { displayname: 256, avatar_url: 1_000 } as const

const bounded = (profile: PublicProfile): PublicProfile =>
  Object.fromEntries(
    Object.entries(profile).filter(
      ([field, value]) => value.isWellFormed() && value.length <= maxLength[field as keyof PublicProfile]
    )
  )

export const makeInvitedProfiles = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const profiles = yield* ProfileStore
  const remote = yield* RemoteDirectory

  /** Empty without an answer of the user's server. */
  const remoteProfile = (userId: UserId): Effect.Effect<PublicProfile> =>
    remote
      .profile(userId)
      .pipe(
        Effect.timeout(profileTimeout),
        Effect.match({ onSuccess: (fields) => bounded(profileOfMember(fields)), onFailure: () => ({}) })
      )

  /** The profiles of users of any server. Users with neither name nor avatar may be missing. */
  return Effect.fnUntraced(function* (userIds: ReadonlyArray<UserId>) {
    const isOurs = (userId: UserId) => serverNameOf(userId) === serverName
    const found = new Map(yield* profiles.publicProfiles(userIds.filter(isOurs)))
    const others = userIds.filter((userId) => !isOurs(userId))
    const ask = (userId: UserId) => Effect.map(remoteProfile(userId), (profile) => found.set(userId, profile))
    yield* Effect.forEach(others, ask, { concurrency: askedAtOnce, discard: true })
    return found as ReadonlyMap<UserId, PublicProfile>
  })
})
