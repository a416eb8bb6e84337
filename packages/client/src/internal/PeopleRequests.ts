/**
 * People: presence, presence lists, profiles, credentials for calls.
 *
 * Source: "Presence", "Profiles" and "Voice over IP" of the draft.
 */
import type { ChangePresenceList, PresenceState } from "@greenroom/protocol/api/PresenceApi"
import type { ProfileVisibility } from "@greenroom/protocol/api/ProfileApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Json } from "@greenroom/protocol/Json"
import type { Transport } from "./Transport.ts"

export const makePeopleRequests = ({ api, repeatable }: Transport) => ({
  /** Errors: M_FORBIDDEN unless the two share a room, or the user accepted the caller. */
  getPresence: (userId: UserId) => repeatable(api.presence.getStatus({ params: { userId } })),
  setPresence: (userId: UserId, state: PresenceState, statusMessage?: string | null) =>
    repeatable(
      api.presence.setStatus({
        params: { userId },
        payload: statusMessage === undefined ? { state } : { state, status_msg: statusMessage }
      })
    ),
  getPresenceList: (userId: UserId) => repeatable(api.presence.getList({ params: { userId } })),
  changePresenceList: (userId: UserId, change: ChangePresenceList) =>
    repeatable(api.presence.changeList({ params: { userId }, payload: change })),
  /** Everything of the profile that the caller may see. Errors: M_NOT_FOUND. */
  getProfile: (userId: UserId) => repeatable(api.profile.get({ params: { userId } })),
  getProfileField: (userId: UserId, field: string) => repeatable(api.profile.getField({ params: { userId, field } })),
  /** Null removes it. */
  setDisplayName: (userId: UserId, displayname: string | null) =>
    repeatable(api.profile.setDisplayName({ params: { userId }, payload: { displayname } })),
  /** Null removes it. */
  setAvatarUrl: (userId: UserId, avatarUrl: string | null) =>
    repeatable(api.profile.setAvatarUrl({ params: { userId }, payload: { avatar_url: avatarUrl } })),
  setProfileField: (userId: UserId, field: string, value: Json, visibility?: ProfileVisibility) =>
    repeatable(
      api.profile.setField({
        params: { userId, field },
        payload: visibility === undefined ? { [field]: value } : { [field]: value, visibility }
      })
    ),
  /** Time-limited credentials for a TURN server, `{}` if there is none. */
  turnServer: repeatable(api.voip.turnServer({}))
})
