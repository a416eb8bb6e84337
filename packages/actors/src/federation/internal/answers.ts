/**
 * Reading the answers of other servers: their outermost form, or undefined if it is another. PDUs stay as they came.
 *
 * Source: "Federation" of the draft, and the server-server specification.
 */
import { PresencePush } from "@greenroom/protocol/federation/Edu"
import type {
  DirectoryAnswer,
  InviteAnswer,
  MakeMembershipAnswer,
  SendJoinAnswer,
  StateAnswer
} from "@greenroom/protocol/federation/FederationAnswers"
import type { TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import {
  type EventId,
  isEventId,
  isRoomAlias,
  isRoomId,
  isServerName,
  isUserId,
  type ServerName
} from "@greenroom/protocol/Identifiers"
import { isJsonObject, itemsOf, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { Option, Schema } from "effect"
import type { HierarchyPart, HierarchyRoom, PublicRooms, RoomSummary } from "../../room/PublicRooms.ts"

type Objects = ReadonlyArray<JsonObject>

export const objects = (value: unknown): Objects | undefined =>
  Array.isArray(value) && value.every(isJsonObject) ? value : undefined

/** The answer to a join beside the state before it and what authorises that: the join as the other server has signed it. */
export interface JoinAnswer {
  readonly event?: JsonObject
  /** Memberships may be missing in the state. */
  readonly members_omitted?: true
}

const readIds = (value: unknown): ReadonlyArray<EventId> | undefined =>
  Array.isArray(value) && value.every((entry): entry is EventId => isEventId(entry)) ? value : undefined

export const readStateIds = (answer: JsonObject) => {
  const [pdu_ids, auth_chain_ids] = [readIds(answer.pdu_ids), readIds(answer.auth_chain_ids)]
  return pdu_ids === undefined || auth_chain_ids === undefined ? undefined : { pdu_ids, auth_chain_ids }
}

export const readPdus = (answer: JsonObject): Objects | undefined => objects(answer.pdus)

export const readState = (answer: JsonObject): StateAnswer | undefined => {
  const [pdus, auth_chain] = [objects(answer.pdus), objects(answer.auth_chain)]
  return pdus === undefined || auth_chain === undefined ? undefined : { pdus, auth_chain }
}

export const readJoined = (answer: JsonObject): SendJoinAnswer | undefined => {
  const [state, auth_chain] = [objects(answer.state), objects(answer.auth_chain)]
  return state === undefined || auth_chain === undefined ? undefined : { state, auth_chain }
}

export const readJoin = (answer: JsonObject): JoinAnswer | undefined => {
  const joined = readJoined(answer)
  return joined === undefined
    ? undefined
    : {
        ...(isJsonObject(answer.event) ? { event: answer.event } : {}),
        ...(answer.members_omitted === true ? { members_omitted: true } : {})
      }
}

export const readMade = ({ event, room_version }: JsonObject): MakeMembershipAnswer | undefined =>
  isJsonObject(event) && typeof room_version === "string" ? { room_version, event } : undefined

export const readInvite = ({ event }: JsonObject): InviteAnswer | undefined =>
  isJsonObject(event) ? { event } : undefined

/** There are servers that answer without `pdus` where all is well. */
export const readTransactionAnswer = ({ pdus = {} }: JsonObject): TransactionAnswer | undefined =>
  isJsonObject(pdus) && Object.values(pdus).every(isJsonObject)
    ? { pdus: pdus as TransactionAnswer["pdus"] }
    : undefined

export const readDirectory = ({ room_id, servers }: JsonObject): DirectoryAnswer | undefined =>
  isRoomId(room_id) && Array.isArray(servers)
    ? {
        room_id,
        servers: servers.filter((server): server is ServerName => typeof server === "string" && isServerName(server))
      }
    : undefined

/** The longest name of a room version, in UTF-16 code units. */
const maxVersionLength = 32

const isText = (value: Json): boolean => typeof value === "string"
const isBoolean = (value: Json): boolean => typeof value === "boolean"
const isCount = (value: Json): boolean => Number.isSafeInteger(value) && (value as number) >= 0

/**
 * The values of a room in a list. Those of another form are left out: there are clients that drop the whole list for an alias that is
 * none.
 */
const roomKeys: { readonly [key: string]: (value: Json) => boolean } = {
  name: isText,
  topic: isText,
  canonical_alias: isRoomAlias,
  avatar_url: isText,
  join_rule: isText,
  room_type: isText,
  room_version: (value) => typeof value === "string" && value.length > 0 && value.length <= maxVersionLength,
  encryption: isText,
  num_joined_members: isCount,
  world_readable: isBoolean,
  guest_can_join: isBoolean
}

const readPublicRoom = (room: JsonObject): ReadonlyArray<RoomSummary> => {
  if (!isRoomId(room.room_id)) return []
  const given = Object.entries(room).filter(([key, value]) => Object.hasOwn(roomKeys, key) && roomKeys[key]!(value))
  return [
    {
      room_id: room.room_id,
      num_joined_members: 0,
      world_readable: false,
      guest_can_join: false,
      ...Object.fromEntries(given)
    }
  ]
}

export const readPublicRooms = ({
  chunk,
  next_batch,
  prev_batch,
  total_room_count_estimate
}: JsonObject): PublicRooms | undefined => {
  const rooms = objects(chunk)?.flatMap(readPublicRoom)
  return rooms === undefined
    ? undefined
    : {
        chunk: rooms,
        ...(typeof next_batch === "string" ? { next_batch } : {}),
        ...(typeof prev_batch === "string" ? { prev_batch } : {}),
        ...(isCount(total_room_count_estimate!)
          ? { total_room_count_estimate: total_room_count_estimate as number }
          : {})
      }
}

/** The most children of a space that are read. */
const maxChildren = 1_000

/** An m.space.child event, in the stripped form. */
const readSpaceChild = ({ content, origin_server_ts, sender, state_key, type }: JsonObject): Objects =>
  type === "m.space.child" && isRoomId(state_key) && isUserId(sender) && isJsonObject(content)
    ? [{ type, state_key, sender, content, origin_server_ts: isCount(origin_server_ts!) ? origin_server_ts! : 0 }]
    : []

const readHierarchyRoom = (room: JsonObject): ReadonlyArray<HierarchyRoom> =>
  readPublicRoom({ join_rule: "public", ...room }).map((summary) => ({
    ...summary,
    ...(Array.isArray(room.allowed_room_ids) ? { allowed_room_ids: room.allowed_room_ids.filter(isRoomId) } : {}),
    children_state: (objects(room.children_state) ?? []).slice(0, maxChildren).flatMap(readSpaceChild)
  }))

export const readHierarchy = ({ children, inaccessible_children, room }: JsonObject): HierarchyPart | undefined => {
  const [root] = isJsonObject(room) ? readHierarchyRoom(room) : []
  return root === undefined
    ? undefined
    : {
        room: root,
        children: (objects(children) ?? []).slice(0, maxChildren).flatMap(readHierarchyRoom),
        inaccessible: itemsOf(inaccessible_children).slice(0, maxChildren).filter(isRoomId)
      }
}

const decodePresence = Schema.decodeUnknownOption(PresencePush)
export const readPresence = (answer: JsonObject): PresencePush | undefined => {
  const state = answer.state ?? answer.presence
  return Option.getOrUndefined(decodePresence({ ...answer, state, presence: state }))
}

export const readAny = (answer: JsonObject): JsonObject => answer

export const readNothing = (): true => true
