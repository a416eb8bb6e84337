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
import type { StoreInvite } from "@greenroom/protocol/identity/InvitationApi"
import { type BoundInvite, type OnBind, SignedBySender, SignedInvite } from "@greenroom/protocol/identity/OnBind"
import { canonicalAddress, type Medium, type ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  BadRequest,
  Forbidden,
  LimitExceeded,
  type MatrixError,
  NotFound
} from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { decodeBase64, importVerifyKey, isKeyId, verifyJson } from "@greenroom/room/Signing"
import { AccountStore } from "@greenroom/store/AccountStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type ThirdPartyInvite, ThirdPartyInviteStore } from "@greenroom/store/ThirdPartyInviteStore"
import { Clock, Context, Effect, Layer, Option, Result, Schema } from "effect"
import { FederationClient } from "../federation/FederationClient.ts"
import type { RemoteError } from "../federation/RemoteError.ts"
import { ServerServerClient } from "../federation/ServerServerClient.ts"
import { makeRoomLevels } from "../room/RoomLevels.ts"
import { Rooms } from "../room/Rooms.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import { makeUnderWay } from "../runtime/UnderWay.ts"
import { IdentityClient } from "./IdentityClient.ts"
import type { IdentityServer } from "./IdentityServer.ts"

/** An address to invite, as a client wrote it. */
export interface AddressToInvite {
  readonly medium: ThirdPartyId["medium"]
  readonly address: string
  /** The identity server; the first trusted one if none is named. */
  readonly id_server?: string
  /** A token of the inviting user for that server: it is asked by version 2 of its API. */
  readonly id_access_token?: string
}

/** How many addresses a user may invite in an hour: every one of them gets a message. */
const maxInvitesPerHour = 50

const hour = 60 * 60_000

/** How many invitations of one message are worked on at once. */
const concurrency = 4

/** The most signatures of an invitation that are checked. */
const maxSignatures = 8

/** When one that could not be made yet is worth another try, in ms. */
const retryAfter = 60_000

const notYet = (error: string) => new LimitExceeded({ error, retry_after_ms: retryAfter })

/** The error that ends the attempts. */
const isFinal = ({ _tag }: MatrixError): boolean => _tag === "M_FORBIDDEN" || _tag === "M_BAD_JSON"

/** Whether one of the keys has signed it, whatever names the signature gives for signer and key. */
export const isSignedBy = (signed: SignedInvite, publicKeys: ReadonlyArray<string>): boolean => {
  const keys = publicKeys.flatMap((text) => {
    const bytes = decodeBase64(text)
    const key = bytes === undefined ? undefined : importVerifyKey(bytes)
    return key !== undefined && Result.isSuccess(key) ? [key.success] : []
  })
  return Object.entries(signed.signatures)
    .flatMap(([signer, byKey]) => Object.keys(byKey).map((keyId) => ({ signer: signer as ServerName, keyId })))
    .filter(({ keyId }) => isKeyId(keyId))
    .slice(0, maxSignatures)
    .some(({ keyId, signer }) =>
      keys.some((key) => Result.isSuccess(verifyJson(signed as unknown as JsonObject, signer, new Map([[keyId, key]]))))
    )
}

const expectedAddress: { readonly [medium in Medium]: string } = {
  email: "an email address, such as alice@example.org",
  msisdn: "an international phone number, such as +4915112345678"
}

const canonical = ({ address, medium }: AddressToInvite): Effect.Effect<ThirdPartyId, BadJson> => {
  const text = canonicalAddress({ address, medium })
  return text === undefined
    ? Effect.fail(new BadJson({ error: `address: expected ${expectedAddress[medium]}` }))
    : Effect.succeed({ medium, address: text })
}

const toMatrixError = (error: RemoteError): MatrixError =>
  error._tag === "RemoteRefused" && [400, 403, 404].includes(error.status)
    ? new Forbidden({ error: error.error })
    : notYet(`${error.destination} cannot be reached now`)

/** The fields that accepting an invitation needs. */
type SignedFor = Pick<BoundInvite, "mxid" | "room_id" | "sender" | "signed">

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
  const identity = yield* IdentityClient
  const invites = yield* ThirdPartyInviteStore
  const accounts = yield* AccountStore
  const profiles = yield* ProfileStore
  const memberships = yield* RoomStore
  const levelsFor = yield* makeRoomLevels
  const rooms = yield* Rooms
  const federation = yield* FederationClient
  const todays = yield* ServerServerClient

  // A user of ours invites an address

  const contentOf = (session: Session, roomId: RoomId, type: string) =>
    Effect.orElseSucceed(rooms.getState(session, roomId, type, ""), (): JsonObject => ({}))

  /** Checked first, so that only members with the power to invite send mails or learn who has an address. */
  const requireMayInvite = Effect.fnUntraced(function* (session: Session, roomId: RoomId, others: number) {
    const levels = yield* levelsFor(session.userId, roomId)
    if (Option.isNone(levels)) return yield* new Forbidden({ error: "Only members of the room can invite" })
    if (levels.value.user(session.userId) < levels.value.of("invite")) {
      return yield* new Forbidden({ error: "Inviting requires the power level `invite`" })
    }
    const now = yield* Clock.currentTimeMillis
    if ((yield* invites.countBetween(session.userId, now - hour, now)) + others >= maxInvitesPerHour) {
      return yield* new LimitExceeded({ error: "Too many addresses were invited", retry_after_ms: hour })
    }
  })

  /** The content of the message to the address. */
  const described = Effect.fnUntraced(function* (session: Session, roomId: RoomId, of: ThirdPartyId) {
    const { name } = yield* contentOf(session, roomId, "m.room.name")
    const { displayname } = yield* profiles.publicProfile(session.userId)
    const shortText = (text: unknown) =>
      typeof text === "string" && text !== "" ? text.slice(0, 200).toWellFormed() : undefined
    const [room_name, sender_display_name] = [shortText(name), shortText(displayname)]
    return {
      ...of,
      room_id: roomId,
      sender: session.userId,
      ...(room_name === undefined ? {} : { room_name }),
      ...(sender_display_name === undefined ? {} : { sender_display_name })
    } satisfies StoreInvite
  })

  /** The user of the address; none if an invitation waits for one from now on. */
  const keep = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    server: IdentityServer,
    of: ThirdPartyId,
    { accessToken, transaction }: { readonly accessToken: string | undefined; readonly transaction: string | undefined }
  ) {
    const outcome = yield* identity.storeInvite(server, yield* described(session, roomId, of), accessToken)
    if ("user" in outcome) return Option.some(outcome.user)
    const { keys, ...kept } = outcome.kept
    const invite = { ...kept, roomId, sender: session.userId, publicKeys: keys.map(({ public_key }) => public_key) }
    if (yield* isToday(roomId)) {
      const content = { display_name: kept.displayName, ...keys[0], public_keys: keys }
      yield* rooms.setState(session, roomId, "m.room.third_party_invite", kept.token, content)
    }
    if (
      !(yield* invites.add(invite, transaction)) &&
      !(transaction !== undefined && (yield* invites.isDone(transaction)))
    ) {
      return yield* new BadRequest({ error: "The identity server gave the token of another invitation" })
    }
    return Option.none()
  })

  /** Servers that are not trusted are asked in the name of the user alone. */
  const serverOf = ({ id_access_token, id_server }: AddressToInvite): Effect.Effect<IdentityServer, MatrixError> =>
    id_access_token === undefined ? identity.trusted(id_server) : identity.named(id_server)

  const findByHash = (server: IdentityServer, of: ThirdPartyId, accessToken: string) =>
    Effect.map(identity.lookupHashed(server, [of], accessToken), ([user]) => Option.fromNullishOr(user))

  const underWay = makeUnderWay()

  const invite = Effect.fn("ThirdPartyInvites.invite")(
    (session: Session, roomId: RoomId, address: AddressToInvite, txnId?: string) =>
      underWay(session.userId, (others) => inviteBeside(others, session, roomId, address, txnId))
  )

  const inviteBeside = Effect.fnUntraced(function* (
    others: number,
    session: Session,
    roomId: RoomId,
    address: AddressToInvite,
    txnId: string | undefined
  ) {
    const transaction = txnId === undefined ? undefined : `${session.tokenId} ${roomId} ${txnId}`
    if (transaction !== undefined && (yield* invites.isDone(transaction))) return
    const of = yield* canonical(address)
    const server = yield* serverOf(address)
    yield* requireMayInvite(session, roomId, others)
    const accessToken = address.id_access_token
    const bound =
      accessToken === undefined ? yield* identity.lookup(server, of) : yield* findByHash(server, of, accessToken)
    const user = Option.isSome(bound) ? bound : yield* keep(session, roomId, server, of, { accessToken, transaction })
    if (Option.isSome(user)) {
      yield* rooms.setMembership(session, roomId, "invite", user.value, undefined, txnId)
    }
  })

  // An address was bound

  /** Whether the room's version is one of today's, in which the token is part of the room. */
  const isToday = (roomId: RoomId) =>
    Effect.map(memberships.version(roomId), (id) => Option.isSome(id) && !isDraft({ id: id.value }))

  /** Invites the user, in the name of the sender. Does nothing for a user who is invited or joined already. */
  const inviteUser = Effect.fnUntraced(function* (
    { displayName, roomId, sender }: ThirdPartyInvite,
    userId: UserId,
    signed: SignedInvite
  ) {
    const membership = yield* memberships.membership(userId, roomId)
    if (Option.isSome(membership) && ["invite", "join"].includes(membership.value.membership)) return
    const session = { userId: sender, tokenId: 0, deviceId: "" }
    if (!(yield* isToday(roomId))) return yield* rooms.setMembership(session, roomId, "invite", userId)
    const third_party_invite = { display_name: displayName, signed: signed as unknown as JsonObject }
    yield* rooms.setState(session, roomId, "m.room.member", userId, { membership: "invite", third_party_invite })
  })

  const take = Effect.fn("ThirdPartyInvites.take")(function* ({ mxid, room_id, sender, signed }: SignedFor) {
    const found = yield* invites.find(signed.token)
    if (Option.isNone(found) || found.value.roomId !== room_id || found.value.sender !== sender) {
      return yield* new Forbidden({ error: "There is no such invitation" })
    }
    if (signed.mxid !== mxid || !isSignedBy(signed, found.value.publicKeys)) {
      return yield* new Forbidden({
        error: "signed: no valid signature of the identity server that keeps the invitation"
      })
    }
    const claim = yield* invites.claim(signed.token, mxid)
    if (claim === "ended") return
    if (claim === "busy") return yield* notYet("The user is being invited")
    if (claim !== "claimed") return yield* new Forbidden({ error: "Another user has taken the invitation" })
    yield* inviteUser(found.value, mxid, signed).pipe(
      Effect.tapError((error) => (isFinal(error) ? invites.end(signed.token) : Effect.void)),
      Effect.onError(() => invites.release(signed.token))
    )
    yield* invites.end(signed.token)
  })

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

  const check = (address: AddressToInvite) => Effect.asVoid(Effect.andThen(canonical(address), serverOf(address)))

  return ThirdPartyInvites.of({ check, invite, accept, onBind, exchange, exchangeToday })
})

/** Invitations of email addresses and phone numbers. */
export class ThirdPartyInvites extends Context.Service<
  ThirdPartyInvites,
  {
    /** Whether the address is one that can be invited. Errors: M_BAD_JSON, M_FORBIDDEN, M_UNKNOWN. */
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
