/**
 * The methods of the WebSocket: the operations of the HTTP API, by name, with the same keys as its bodies and the same
 * results. A `txn_id` makes a request idempotent, like the PUT of the HTTP API.
 */
import { Result, Schema } from "effect"
import { AnyPayload, AnyValue } from "./api/Body.ts"
import { boundedText, EventType, ProfileField, RoomIdOrAlias, StateKey, TransactionId } from "./api/Parameters.ts"
import { PresenceState } from "./api/PresenceApi.ts"
import { ProfileVisibility } from "./api/ProfileApi.ts"
import { CreateRoom, Typing } from "./api/RoomsApi.ts"
import { EventId, HistoricalUserId, RoomId, UserId } from "./Identifiers.ts"
import { describeIssue } from "./IssueDescription.ts"
import { BadJson, BadPagination } from "./MatrixError.ts"
import { isPaginationKey } from "./Pagination.ts"

const room_id = RoomId
const txn_id = Schema.optionalKey(TransactionId)
const reason = Schema.optionalKey(Schema.String)
const textOrNumber = Schema.optionalKey(Schema.Union([Schema.String, Schema.Number]))
const moderation = { room_id, user_id: HistoricalUserId, reason, txn_id }

/** The parameters of each method, and what it does: `/docs` shows both (`SocketDocumentation`). */
export const socketMethods = {
  send: Schema.Struct({ room_id, type: EventType, content: AnyPayload, txn_id }).annotate({
    description: "Sends an event: `{event_id}`. As `PUT /rooms/{roomId}/send/{type}/{txnId}`."
  }),
  state: Schema.Struct({
    room_id,
    type: Schema.optionalKey(EventType),
    state_key: Schema.optionalKey(StateKey),
    content: Schema.optionalKey(AnyPayload)
  }).annotate({
    description:
      "With `content`: sets state, `{event_id}`. With `type` alone: the content of that state event. Without: all current " +
      "state events. `state_key` is empty if absent. As `/rooms/{roomId}/state/{type}/{stateKey}`."
  }),
  join: Schema.Struct({ room_id: RoomIdOrAlias, content: Schema.optionalKey(AnyPayload), txn_id }).annotate({
    description: "Joins a room by its ID or alias: `{room_id}`. As `PUT /join/{roomIdOrAlias}/{txnId}`."
  }),
  leave: Schema.Struct({ room_id, txn_id }).annotate({
    description: "Leaves a room, or rejects an invitation: `{}`. As `PUT /rooms/{roomId}/leave/{txnId}`."
  }),
  invite: Schema.Struct({ room_id, user_id: UserId, reason, txn_id }).annotate({
    description: "Invites a user: `{}`. As `PUT /rooms/{roomId}/invite/{txnId}`."
  }),
  kick: Schema.Struct(moderation).annotate({
    description: "Removes a user: `{}`. As `PUT /rooms/{roomId}/kick/{txnId}`."
  }),
  ban: Schema.Struct(moderation).annotate({
    description: "Bans a user: `{}`. As `PUT /rooms/{roomId}/ban/{txnId}`."
  }),
  unban: Schema.Struct(moderation).annotate({
    description: "Lifts the ban of a user: `{}`. As `PUT /rooms/{roomId}/unban/{txnId}`."
  }),
  typing: Schema.Struct({ room_id, ...Typing.fields }).annotate({
    description: "Sets whether the caller is typing: `{}`. As `PUT /rooms/{roomId}/typing/{userId}`."
  }),
  presence: Schema.Struct({
    user_id: Schema.optionalKey(UserId),
    state: Schema.optionalKey(PresenceState),
    presence: Schema.optionalKey(PresenceState),
    status_msg: Schema.optionalKey(Schema.NullOr(boundedText(1024)))
  }).annotate({
    description:
      "With `state` (or `presence`): sets the caller's presence, `{}`. Else the presence of `user_id`. As " +
      "`/presence/{userId}/status`."
  }),
  messages: Schema.Struct({
    room_id,
    from: textOrNumber,
    to: textOrNumber,
    limit: textOrNumber,
    dir: textOrNumber,
    feedback: Schema.optionalKey(Schema.Boolean)
  }).annotate({
    description: "Pages through the events of a room: `{chunk, start, end}`. As `GET /rooms/{roomId}/messages`."
  }),
  initialSync: Schema.Struct({ room_id: Schema.optionalKey(RoomId), limit: textOrNumber }).annotate({
    description: "All rooms of the caller, or one. As `GET /initialSync` and `GET /rooms/{roomId}/initialSync`."
  }),
  members: Schema.Struct({ room_id }).annotate({
    description: "The members of a room: `{chunk, start, end}`. As `GET /rooms/{roomId}/members`."
  }),
  createRoom: Schema.Struct({ ...CreateRoom.fields, txn_id }).annotate({
    description: "Creates a room: `{room_id, room_alias?}`. As `PUT /createRoom/{txnId}`."
  }),
  redact: Schema.Struct({ room_id, event_id: EventId, reason, txn_id }).annotate({
    description:
      "Strips an event to what the protocol needs: `{event_id}`. As `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`."
  }),
  profile: Schema.Struct({
    user_id: Schema.optionalKey(UserId),
    field: Schema.optionalKey(ProfileField),
    value: Schema.optionalKey(AnyValue),
    visibility: Schema.optionalKey(ProfileVisibility)
  }).annotate({
    description:
      "With `value`: sets a field of the caller's profile, `{}`. Else the profile of `user_id`, or one `field` of it. As " +
      "`/profile/{userId}/{field}`."
  }),
  ping: Schema.Struct({}).annotate({ description: "Answers `{}`: the socket is alive, and so is the user." })
} as const

/** The name of a method. */
export type SocketMethod = keyof typeof socketMethods

/** The parameters of a method. */
export type SocketParams<Method extends SocketMethod> = (typeof socketMethods)[Method]["Type"]

/** A method with its parameters. */
export type SocketCall = {
  [Method in SocketMethod]: { readonly method: Method; readonly params: SocketParams<Method> }
}[SocketMethod]

/** True for the name of a method. */
export const isSocketMethod = (method: string): method is SocketMethod => Object.hasOwn(socketMethods, method)

const compile = <Method extends SocketMethod>(method: Method) =>
  Schema.decodeUnknownResult(socketMethods[method] as Schema.Codec<SocketParams<Method>>)

const decoders = Object.fromEntries(
  Object.keys(socketMethods).map((method) => [method, compile(method as SocketMethod)])
) as { readonly [Method in SocketMethod]: ReturnType<typeof compile<SocketMethod>> }

/** Reads the parameters of a method. Errors: M_BAD_JSON and M_BAD_PAGINATION, naming the key. */
export const decodeParams = (
  method: SocketMethod,
  params: unknown
): Result.Result<SocketCall, BadJson | BadPagination> =>
  Result.mapBoth(decoders[method](params), {
    onSuccess: (decoded) => ({ method, params: decoded }) as SocketCall,
    onFailure: (failure) => {
      const { key, text } = describeIssue(failure.issue)
      return isPaginationKey(key)
        ? new BadPagination({ error: `params.${text}` })
        : new BadJson({ error: key === "" ? `params: ${text}` : `params.${text}` })
    }
  })
