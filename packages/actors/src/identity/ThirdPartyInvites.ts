/**
 * Invitations of addresses. One that has a user invites the user; for any other the identity server keeps an invitation and
 * writes to the address, and this server keeps its token with the keys that will sign it. When the address is bound, the
 * identity server informs the home server of the user (`onBind`), which forwards to that of the sender (`exchange`),
 * which invites the user in the sender's name: once, and only if the sender still may.
 *
 * In rooms of versions 1 to 12 the token is in the room too (`m.room.third_party_invite`), and the invite carries what the
 * identity server has signed: every server of the room checks it by the rules of the room version.
 *
 * | what arrives | where it goes |
 * |---|---|
 * | `onBind` from an identity server, sender of ours | `take` |
 * | `onBind` from an identity server, other sender | the home server of the sender |
 * | `exchange` from the home server of the user | `take` |
 * | `accept` from a user of ours who has the link of the message | `take`, or the home server of the sender |
 *
 * Source: "Identity" of the draft; "Third-party invites" of the server-server specification.
 */
import { RoomId, type ServerName, serverNameOf, UserId } from "@greenroom/protocol/Identifiers"
import { describeIssue } from "@greenroom/protocol/IssueDescription"
import { type BoundInvite, type OnBind, SignedBySender, SignedInvite } from "@greenroom/protocol/identity/OnBind"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Context, Effect, Layer, Option, Result, Schema } from "effect"
import { FederationClient } from "../federation/FederationClient.ts"
import type { RemoteError } from "../federation/RemoteError.ts"
import { ServerServerClient } from "../federation/ServerServerClient.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import { type AddressToInvite, makeAddressInvites } from "./internal/AddressInvites.ts"
import { isFinal, makeKeptInvites, notYet, type SignedFor } from "./internal/KeptInvites.ts"

export type { AddressToInvite } from "./internal/AddressInvites.ts"

/** How many invitations of one message are worked on at once. */
const concurrency = 4

const toMatrixError = (error: RemoteError): MatrixError =>
  error._tag === "RemoteRefused" && [400, 403, 404].includes(error.status)
    ? new Forbidden({ error: error.error })
    : notYet(`${error.destination} cannot be reached now`)

/** The invite that the sender's server is to make, without its place in the room. */
const Template = Schema.Struct({
  type: Schema.Literal("m.room.member"),
  room_id: RoomId,
  sender: UserId,
  state_key: UserId,
  content: Schema.Struct({
    membership: Schema.Literal("invite"),
    third_party_invite: Schema.Struct({ signed: SignedInvite })
  })
})
const decodeTemplate = Schema.decodeUnknownResult(Template)
const decodeProof = Schema.decodeUnknownResult(SignedBySender)

const templateOf = ({ mxid, room_id, sender, signed }: SignedFor): JsonObject => ({
  type: "m.room.member",
  room_id,
  sender,
  state_key: mxid,
  // The name of the address is in the room, where the sender's server finds it.
  content: {
    membership: "invite",
    third_party_invite: { display_name: "", signed: signed as unknown as JsonObject }
  }
})

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const accounts = yield* AccountStore
  const federation = yield* FederationClient
  const todays = yield* ServerServerClient
  const { check, invite } = yield* makeAddressInvites
  const { isToday, take } = yield* makeKeptInvites

  const passOn = (bound: BoundInvite): Effect.Effect<void, MatrixError> => {
    const home = serverNameOf(bound.sender)
    if (home === serverName) return take(bound)
    // This server may have no member in the room, so it does not know the room's version: it uses the dialect that the other
    // server takes.
    return todays.exchangeThirdPartyInvite(home, bound.room_id, templateOf(bound)).pipe(
      Effect.catchIf(
        (error) => error._tag === "RemoteRefused" && error.status === 404,
        () => federation.exchangeThirdPartyInvite(home, bound)
      ),
      Effect.mapError(toMatrixError)
    )
  }

  const accept = Effect.fn("ThirdPartyInvites.accept")(function* (
    { userId }: Session,
    roomId: RoomId,
    given: JsonObject
  ) {
    const proof = decodeProof(given)
    if (Result.isFailure(proof)) {
      return yield* new BadJson({ error: `third_party_signed: ${describeIssue(proof.failure.issue).text}` })
    }
    const { mxid, sender } = proof.success
    if (mxid !== userId) return yield* new Forbidden({ error: "third_party_signed: it is for another user" })
    const accepted = { mxid, room_id: roomId, sender, signed: proof.success }
    const home = serverNameOf(sender)
    if (home === serverName) return yield* take(accepted)
    const exchanged = todays.exchangeThirdPartyInvite(home, roomId, templateOf(accepted))
    yield* Effect.mapError(exchanged, toMatrixError)
  })

  const requireOurs = Effect.fnUntraced(function* (mxid: UserId) {
    const account = yield* accounts.find(mxid)
    if (serverNameOf(mxid) !== serverName || Option.isNone(account) || account.value.deactivatedAt !== undefined) {
      return yield* new Forbidden({ error: `mxid: there is no user ${mxid} here` })
    }
  })

  const onBind = Effect.fn("ThirdPartyInvites.onBind")(function* ({ invites: bound, mxid }: OnBind) {
    yield* requireOurs(mxid)
    if (bound.some((entry) => entry.mxid !== mxid || entry.signed.mxid !== mxid)) {
      return yield* new Forbidden({ error: "invites: expected invitations of the user to whom the address was bound" })
    }
    const results = yield* Effect.forEach(bound, (entry) => Effect.result(passOn(entry)), { concurrency })
    const failures = results.flatMap((result) => (Result.isFailure(result) ? [result.failure] : []))
    const open = failures.find((error) => !isFinal(error))
    if (open !== undefined) return yield* notYet(open.error)
    if (failures.length > 0 && failures.length === bound.length) return yield* Effect.fail(failures[0]!)
  })

  const exchange = Effect.fn("ThirdPartyInvites.exchange")(function* (
    origin: ServerName,
    roomId: RoomId,
    bound: BoundInvite
  ) {
    if (serverNameOf(bound.mxid) !== origin) {
      return yield* new Forbidden({ error: `mxid: ${bound.mxid} is not a user of ${origin}` })
    }
    if (bound.room_id !== roomId) return yield* new BadJson({ error: "room_id: expected the room of the path" })
    yield* take(bound)
  })

  const exchangeToday = Effect.fn("ThirdPartyInvites.exchangeToday")(function* (
    origin: ServerName,
    roomId: RoomId,
    template: JsonObject
  ) {
    if (!(yield* isToday(roomId))) return yield* new NotFound({ error: `There is no room ${roomId}` })
    const bound = decodeTemplate(template)
    if (Result.isFailure(bound)) return yield* new BadJson({ error: describeIssue(bound.failure.issue).text })
    const { content, room_id, sender, state_key: mxid } = bound.success
    if (serverNameOf(mxid) !== origin) return yield* new Forbidden({ error: `${mxid} is not a user of ${origin}` })
    if (room_id !== roomId) return yield* new BadJson({ error: "room_id: expected the room of the path" })
    yield* take({ mxid, room_id, sender, signed: content.third_party_invite.signed })
  })

  return ThirdPartyInvites.of({ check, invite, accept, onBind, exchange, exchangeToday })
})

/** Invitations of email addresses and phone numbers. */
export class ThirdPartyInvites extends Context.Service<
  ThirdPartyInvites,
  {
    /** Whether the address is one that can be invited. Errors: M_BAD_JSON, M_SERVER_NOT_TRUSTED, M_FORBIDDEN, M_UNKNOWN. */
    readonly check: (address: AddressToInvite) => Effect.Effect<void, MatrixError>
    /**
     * Members with the power to invite. With `txnId`, a repeat invites once. Errors: M_FORBIDDEN, M_BAD_JSON,
     * M_LIMIT_EXCEEDED, M_UNKNOWN if the identity server cannot be asked.
     */
    readonly invite: (
      session: Session,
      roomId: RoomId,
      address: AddressToInvite,
      txnId?: string
    ) => Effect.Effect<void, MatrixError>
    /**
     * Invites the user to the room by what an identity server has signed for them (`third_party_signed`). Errors: M_FORBIDDEN,
     * M_BAD_JSON, M_LIMIT_EXCEEDED if it is to be repeated later.
     */
    readonly accept: (session: Session, roomId: RoomId, signed: JsonObject) => Effect.Effect<void, MatrixError>
    /**
     * An identity server reports that an address was bound to a user of ours. Errors: M_FORBIDDEN if no invitation in it is
     * valid, M_LIMIT_EXCEEDED if the caller must repeat it later.
     */
    readonly onBind: (bound: OnBind) => Effect.Effect<void, MatrixError>
    /** The home server of the user passes an invitation of a user of ours on. Errors: M_FORBIDDEN, M_LIMIT_EXCEEDED. */
    readonly exchange: (origin: ServerName, roomId: RoomId, bound: BoundInvite) => Effect.Effect<void, MatrixError>
    /** The same in today's form: an invite without its place. Errors: M_NOT_FOUND, M_FORBIDDEN, M_BAD_JSON. */
    readonly exchangeToday: (
      origin: ServerName,
      roomId: RoomId,
      template: JsonObject
    ) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/ThirdPartyInvites") {
  static readonly layer = Layer.effect(ThirdPartyInvites, make)
}
