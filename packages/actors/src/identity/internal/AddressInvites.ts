/**
 * Invites addresses in the name of a user of ours. An address that has a user is invited as that user; for any other the identity
 * server keeps an invitation, whose token and keys this server keeps.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import type { StoreInvite } from "@greenroom/protocol/identity/InvitationApi"
import { canonicalAddress, type Medium, type ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, BadRequest, Forbidden, LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { ThirdPartyInviteStore } from "@greenroom/store/ThirdPartyInviteStore"
import { Clock, Effect, Option } from "effect"
import { makeRoomLevels } from "../../room/RoomLevels.ts"
import { Rooms } from "../../room/Rooms.ts"
import type { Session } from "../../runtime/Session.ts"
import { makeUnderWay } from "../../runtime/UnderWay.ts"
import { IdentityClient } from "../IdentityClient.ts"
import type { IdentityServer } from "../IdentityServer.ts"

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

export const makeAddressInvites = Effect.gen(function* () {
  const identity = yield* IdentityClient
  const invites = yield* ThirdPartyInviteStore
  const profiles = yield* ProfileStore
  const versions = yield* RoomStore
  const levelsFor = yield* makeRoomLevels
  const rooms = yield* Rooms

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
    if (Option.exists(yield* versions.version(roomId), (id) => !isDraft({ id }))) {
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

  const check = (address: AddressToInvite) => Effect.asVoid(Effect.andThen(canonical(address), serverOf(address)))

  return { check, invite }
})
