/**
 * The arguments and results of `Rooms`, in the form of the draft's client API.
 *
 * Source: "Rooms" of the draft and of the client-server specification.
 */
import type { ClientEvent } from "@greenroom/protocol/Event"
import type { RoomAlias, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { RoomSeed } from "@greenroom/room/RoomPreset"
import type { RoomVersion } from "@greenroom/room/RoomVersion"

/** The body of `createRoom` of the API of 2014. */
export interface CreateRoom {
  /** `public` if absent: the room is listed, and anybody may join it. */
  readonly visibility?: "public" | "private"
  /** Localpart of an alias on this server, without `#`. */
  readonly room_alias_name?: string
  readonly name?: string
  readonly topic?: string
  readonly invite?: ReadonlyArray<UserId>
  /** The ID of a room version; that of the draft if absent. */
  readonly room_version?: string
}

/** A room to be made, as its version has it. */
export interface SeededRoom {
  readonly version: RoomVersion
  readonly seed: RoomSeed
  /** Whether the room is in the list of public rooms. */
  readonly listed: boolean
  readonly invite: ReadonlyArray<UserId>
  /** Whether the invitations say that it is a conversation of two. */
  readonly isDirect?: boolean
  /** Localpart of an alias on this server, without `#`. The seed's state names it, or not. */
  readonly aliasName?: string
}

/** A page of events, with the tokens at its ends. */
export interface MessagePage {
  readonly chunk: ReadonlyArray<ClientEvent>
  readonly start: string
  readonly end: string
}

/** One room of an initialSync. */
export interface RoomSnapshot {
  readonly room_id: RoomId
  readonly membership: string
  readonly inviter?: UserId
  readonly visibility?: "public" | "private"
  readonly messages?: MessagePage
  readonly state?: ReadonlyArray<ClientEvent>
}

/** An entry of the list of public rooms. */
export interface PublicRoom {
  readonly room_id: RoomId
  readonly name?: string
  readonly topic?: string
  readonly aliases: ReadonlyArray<RoomAlias>
  readonly num_joined_members: number
}

/** The start of a page of public rooms: `START` or the `end` of a page before. */
export interface PublicRoomsQuery {
  readonly from?: string | undefined
  readonly limit?: number | undefined
}

/** A page of the list of public rooms. */
export interface PublicRoomPage {
  readonly chunk: ReadonlyArray<PublicRoom>
  readonly start: string
  /** `END` after the last page. */
  readonly end: string
}

/** The range of a page of messages. `from` and `to` are tokens, `START` or `END`. */
export interface MessagesQuery {
  /** The stream token at which the page begins, `START` or `END`. */
  readonly from?: string
  /** The stream token at which the page ends, `START` or `END`. */
  readonly to?: string
  /** Defaults to 10, at most 1,000. */
  readonly limit?: number
  /** If absent: forwards from `START` or to `END`, else backwards. */
  readonly dir?: "f" | "b"
  /** Bundle feedback with its message. */
  readonly feedback?: boolean
}
