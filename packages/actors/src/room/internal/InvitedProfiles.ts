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

  /** The profile of a user of any server. Without an answer of that server it is empty. */
  return (userId: UserId): Effect.Effect<PublicProfile> =>
    serverNameOf(userId) === serverName
      ? profiles.publicProfile(userId)
      : remote
          .profile(userId)
          .pipe(
            Effect.timeout(profileTimeout),
            Effect.match({ onSuccess: (fields) => bounded(profileOfMember(fields)), onFailure: () => ({}) })
          )
})
