/**
 * Changes of rooms: requests of users as messages to the Room actor.
 */
import { checkEvent } from "@greenroom/protocol/EventCheck"
import {
  type EventId,
  isEventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  serverNameOf,
  serverPartOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  CannotLeaveServerNoticeRoom,
  Forbidden,
  GuestAccessForbidden,
  type MatrixError,
  NotFound
} from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect, Option, Queue } from "effect"
import { AppServiceQueries } from "../../app-service/AppServiceQueries.ts"
import { EphemeralStream } from "../../presence/EphemeralStream.ts"
import { ask } from "../../runtime/Ask.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { Nodes } from "../../runtime/Nodes.ts"
import { traced } from "../../runtime/Sampling.ts"
import type { Session } from "../../runtime/Session.ts"
import { SessionRevocations } from "../../runtime/SessionRevocations.ts"
import { makeMembershipLimits } from "../MembershipLimits.ts"
import { Room, requestTransaction } from "../RoomProtocol.ts"
import { makeRoomCreations } from "./RoomCreations.ts"

/** The operation of a request and its target. A slash inside a name differs from the one before a transaction ID. */
const kindFor = (action: string, name: string): string =>
  `${action}/${name.replaceAll("%", "%25").replaceAll("/", "%2F")}`

/** The membership that a request asks for. */
const membershipFor = { invite: "invite", ban: "ban", kick: "leave", unban: "leave", knock: "knock" } as const

/** The membership changes that lift bans. */
const bannedFor = { kick: { banned: false }, unban: { banned: true } } as const

/** How long typing lasts by default, in milliseconds. */
const defaultTypingTimeout = 30_000

const needsVoucher = ({ _tag }: MatrixError): boolean =>
  _tag === "M_UNABLE_TO_GRANT_JOIN" || _tag === "M_UNABLE_TO_AUTHORISE_JOIN"

export const makeRoomRequests = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const nodes = yield* Nodes
  const room = yield* Room.client
  const accounts = yield* AccountStore
  const appServices = yield* AppServiceQueries
  const profiles = yield* ProfileStore
  const directory = yield* DirectoryStore
  const rooms = yield* RoomStore
  const ephemeral = yield* EphemeralStream
  const revocations = yield* SessionRevocations

  const limits = yield* makeMembershipLimits
  const notices = yield* NoticeStore
  const transactionOf = (session: Session, kind: string, txnId: string | undefined) =>
    requestTransaction(nodes, session, kind, txnId)

  const profileOf = (userId: UserId): Effect.Effect<JsonObject> =>
    Effect.map(profiles.publicProfile(userId), (profile) => ({ ...profile }))

  /** Names without an account cannot be invited: a user who registers one later would be in the room. */
  const mustBeInvitable = Effect.fnUntraced(function* (inviter: UserId, userIds: ReadonlyArray<UserId>) {
    const ours = userIds.filter((userId) => serverNameOf(userId) === serverName)
    if (ours.length === 0) return
    const asked = new Set<UserId>()
    let absent = yield* accounts.findAbsent(ours)
    while (Option.isSome(absent) && !asked.has(absent.value) && (yield* appServices.makesUser(absent.value))) {
      asked.add(absent.value)
      absent = yield* accounts.findAbsent(ours)
    }
    if (Option.isSome(absent)) return yield* new NotFound({ error: `There is no user ${absent.value} on this server` })
    yield* Effect.forEach(ours, (userId) => limits.mustTakeInvitation(userId, inviter), { discard: true })
  })

  const creations = yield* makeRoomCreations({ mustBeInvitable, entering: limits.entering, profileOf })

  const propose = (
    session: Session,
    roomId: RoomId,
    event: {
      readonly type: string
      readonly content: JsonObject
      readonly stateKey?: string
      readonly banned?: boolean
    },
    transaction: ReturnType<typeof requestTransaction>
  ): Effect.Effect<{ readonly event_id: EventId }, MatrixError> => {
    const problem = checkEvent(event.type, event.stateKey, event.content)
    if (problem !== undefined) return Effect.fail(problem)
    const at = session.at === undefined ? {} : { at: session.at }
    const guest = session.guest ? { guest: true } : {}
    return ask(room(roomId).Propose({ sender: session.userId, ...event, ...at, ...guest, ...transaction }))
  }

  const send = (session: Session, roomId: RoomId, type: string, content: JsonObject, txnId?: string) =>
    type === "m.room.redaction"
      ? sendRedaction(session, roomId, content, txnId)
      : propose(session, roomId, { type, content }, transactionOf(session, kindFor("send", type), txnId))

  /** A redaction that is sent as an event: its content names the event and the reason. */
  const sendRedaction = (
    session: Session,
    roomId: RoomId,
    { reason, redacts }: JsonObject,
    txnId: string | undefined
  ): Effect.Effect<{ readonly event_id: EventId }, MatrixError> => {
    if (!isEventId(redacts)) return Effect.fail(new BadJson({ error: "redacts: expected the ID of an event" }))
    return reason === undefined || typeof reason === "string"
      ? redact(session, roomId, redacts, reason, txnId)
      : Effect.fail(new BadJson({ error: "reason: expected string" }))
  }

  /** Checks that aliases of this server in a client's event agree with the directory. */
  const mustPointHere = Effect.fnUntraced(function* (roomId: RoomId, stateKey: string, content: JsonObject) {
    if (stateKey !== serverName) {
      return yield* new Forbidden({ error: `state_key: ${serverName} speaks for its own aliases only` })
    }
    const aliases = content.aliases as ReadonlyArray<RoomAlias>
    const foreign = aliases.find((alias) => serverNameOf(alias) !== serverName)
    if (foreign !== undefined) {
      return yield* new BadJson({ error: `aliases: ${foreign} does not belong to ${serverName}` })
    }
    const known = new Set(yield* directory.aliasesOf(roomId))
    const unknown = aliases.find((alias) => !known.has(alias))
    if (unknown !== undefined) return yield* new Forbidden({ error: `aliases: ${unknown} does not point to this room` })
  })

  const setState = (
    session: Session,
    roomId: RoomId,
    type: string,
    stateKey: string,
    content: JsonObject,
    txnId?: string
  ) => {
    const isOwn = type === "m.room.member" && stateKey === session.userId
    const enters = isOwn && (content.membership === "join" || content.membership === "knock")
    const set = setAnyState(session, roomId, type, stateKey, content, txnId)
    return enters ? limits.entering(session.userId, roomId, set) : set
  }

  /** A user's own join carries the profile; every other membership is taken as it is. */
  const setAnyState = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    type: string,
    stateKey: string,
    content: JsonObject,
    txnId: string | undefined
  ) {
    const isInvite = type === "m.room.member" && content.membership === "invite"
    if (isInvite || type === "m.room.aliases") {
      const problem = checkEvent(type, stateKey, content)
      if (problem !== undefined) return yield* problem
      yield* isInvite ? mustBeInvitable(session.userId, [stateKey as UserId]) : mustPointHere(roomId, stateKey, content)
    }
    const isOwn = type === "m.room.member" && stateKey === session.userId
    const transaction = transactionOf(session, kindFor("state", type), txnId)
    if (isOwn && content.membership === "leave") {
      yield* mustNotRejectNotices(session.userId, roomId)
      const reason = typeof content.reason === "string" ? content.reason : undefined
      const left = yield* leaveOutside(session.userId, roomId, reason, transaction)
      if (left?.event_id !== undefined) return { event_id: left.event_id }
    }
    const withProfile = isOwn && (content.membership === "join" || content.membership === "knock")
    const whole = withProfile ? { ...(yield* profileOf(session.userId)), ...content } : content
    if (session.guest && (isInvite || (isOwn && content.membership === "knock"))) {
      return yield* new GuestAccessForbidden({ error: "Guests invite nobody, and do not knock" })
    }
    const through = isOwn && content.membership === "knock" ? yield* serversOutside(session.userId, roomId, []) : []
    if (through.length > 0) {
      return yield* ask(room(roomId).KnockRemotely({ userId: session.userId, content: whole, servers: through }))
    }
    if (isInvite && serverNameOf(stateKey as UserId) !== serverName) {
      const invited = stateKey as UserId
      return yield* ask(room(roomId).InviteRemotely({ sender: session.userId, invited, content }))
    }
    return yield* propose(session, roomId, { type, content: whole, stateKey }, transaction)
  })

  /** Whether this server takes part in the room. */
  const isHere = (roomId: RoomId) =>
    Effect.map(
      Effect.orElseSucceed(ask(room(roomId).Servers()), (): ReadonlyArray<ServerName> => []),
      (servers) => servers.includes(serverName)
    )

  /**
   * Servers through which a remote room can be reached: the inviter's, and those that are named. The server in the room ID may
   * have left long ago: it is tried where no other server is known.
   */
  const serversFor = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId, named: ReadonlyArray<ServerName>) {
    const membership = yield* rooms.membership(userId, roomId)
    const inviter = Option.isSome(membership) ? [serverNameOf(membership.value.sender)] : []
    const others = [...new Set([...inviter, ...named])].filter((server) => server !== serverName)
    const maker = serverPartOf(roomId)
    return others.length > 0 || maker === undefined || maker === serverName ? others : [maker]
  })

  /**
   * The servers through which a user enters a room that this one takes no part in. A room of our own that we have lost, as after
   * a restore of a backup, is entered through others like any other.
   */
  const serversOutside = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    named: ReadonlyArray<ServerName>
  ) {
    return (yield* isHere(roomId)) ? [] : yield* serversFor(userId, roomId, named)
  })

  const joinRoom = Effect.fn("Rooms.joinRoom")(
    (session: Session, roomId: RoomId, content: JsonObject, txnId?: string, servers: ReadonlyArray<ServerName> = []) =>
      limits.entering(session.userId, roomId, join(session, roomId, content, txnId, servers))
  )

  const join = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    content: JsonObject,
    txnId: string | undefined,
    servers: ReadonlyArray<ServerName>
  ) {
    const membership = { ...(yield* profileOf(session.userId)), ...content, membership: "join" }
    const through = yield* serversOutside(session.userId, roomId, servers)
    if (through.length > 0) {
      if (session.guest) return yield* new GuestAccessForbidden({ error: `${roomId} is not known to let guests in` })
      const problem = checkEvent("m.room.member", session.userId, membership)
      if (problem !== undefined) return yield* problem
      yield* ask(room(roomId).JoinRemotely({ userId: session.userId, content: membership, servers: through }))
      return { room_id: roomId }
    }
    const joining = { type: "m.room.member", stateKey: session.userId, content: membership }
    yield* Effect.catch(propose(session, roomId, joining, transactionOf(session, "join", txnId)), (refusal) =>
      needsVoucher(refusal) ? joinByVoucher(session.userId, roomId, membership, servers) : Effect.fail(refusal)
    )
    return { room_id: roomId }
  })

  /** This server has no user that can authorise a restricted join; another server may have one. */
  const joinByVoucher = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    content: JsonObject,
    named: ReadonlyArray<ServerName>
  ) {
    const servers = [...named, ...(yield* ask(room(roomId).Servers()))]
    yield* ask(room(roomId).JoinRemotely({ userId, content, servers }))
  })

  /**
   * Rejects an invitation or takes a knock back, in a room that this server takes no part in. A user who has left already gets the
   * first answer: the client may have lost it. Undefined if the rules of the room decide.
   */
  const leaveOutside = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    reason: string | undefined,
    transaction: ReturnType<typeof requestTransaction>
  ) {
    const found = yield* rooms.membership(userId, roomId)
    const membership = Option.isSome(found) ? found.value.membership : "leave"
    if (membership === "join" || membership === "ban" || (yield* isHere(roomId))) return undefined
    if (membership !== "leave") {
      const servers = yield* serversFor(userId, roomId, [])
      const why = reason === undefined ? {} : { reason }
      yield* ask(room(roomId).LeaveRemotely({ userId, servers, ...why, ...transaction }))
    }
    const left = yield* rooms.ownLeave(userId, roomId)
    return membership === "leave" && Option.isNone(left) ? undefined : { event_id: Option.getOrUndefined(left) }
  })

  /** The invitation to the room of server notices cannot be rejected; the room can be left. */
  const mustNotRejectNotices = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    if (!Option.contains(yield* notices.roomOf(userId), roomId)) return
    const membership = yield* rooms.membership(userId, roomId)
    if (Option.isSome(membership) && membership.value.membership === "invite") {
      return yield* new CannotLeaveServerNoticeRoom({ error: "The invitation to server notices cannot be rejected" })
    }
  })

  const leave = Effect.fn("Rooms.leave")(function* (session: Session, roomId: RoomId, txnId?: string, reason?: string) {
    yield* mustNotRejectNotices(session.userId, roomId)
    const transaction = transactionOf(session, "leave", txnId)
    if ((yield* leaveOutside(session.userId, roomId, reason, transaction)) !== undefined) return
    const why = reason === undefined ? {} : { reason }
    yield* propose(
      session,
      roomId,
      { type: "m.room.member", stateKey: session.userId, content: { membership: "leave", ...why } },
      transaction
    )
  })

  const setMembership = (
    session: Session,
    roomId: RoomId,
    action: keyof typeof membershipFor,
    target: UserId,
    reason?: string,
    txnId?: string,
    servers: ReadonlyArray<ServerName> = []
  ) => {
    const set = setAnyMembership(session, roomId, action, target, reason, txnId, servers)
    return action === "knock" ? limits.entering(session.userId, roomId, set) : set
  }

  const setAnyMembership = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    action: keyof typeof membershipFor,
    target: UserId,
    reason: string | undefined,
    txnId: string | undefined,
    servers: ReadonlyArray<ServerName>
  ) {
    if (action === "kick" && target === session.userId) {
      return yield* new Forbidden({ error: "user_id: to leave the room, use leave" })
    }
    if (action === "invite") yield* mustBeInvitable(session.userId, [target])
    const profile = action === "invite" || action === "knock" ? yield* profileOf(target) : {}
    const content = { ...profile, membership: membershipFor[action], ...(reason === undefined ? {} : { reason }) }
    const through = action === "knock" ? yield* serversOutside(session.userId, roomId, servers) : []
    if (through.length > 0) {
      yield* ask(room(roomId).KnockRemotely({ userId: session.userId, content, servers: through }))
      return
    }
    if (action === "invite" && serverNameOf(target) !== serverName) {
      yield* ask(
        room(roomId).InviteRemotely({
          sender: session.userId,
          invited: target,
          content,
          ...transactionOf(session, kindFor("invite", target), txnId)
        })
      )
      return
    }
    yield* propose(
      session,
      roomId,
      { type: "m.room.member", stateKey: target, content, ...(action in bannedFor ? bannedFor[action as "kick"] : {}) },
      transactionOf(session, kindFor(action, target), txnId)
    )
  })

  const redact = (session: Session, roomId: RoomId, eventId: EventId, reason?: string, txnId?: string) =>
    ask(
      room(roomId).Redact({
        sender: session.userId,
        target: eventId,
        ...(reason === undefined ? {} : { reason }),
        ...transactionOf(session, kindFor("redact", eventId), txnId)
      })
    )

  const setTyping = (session: Session, roomId: RoomId, userId: UserId, typing: boolean, timeout?: number) =>
    userId === session.userId
      ? ask(room(roomId).SetTyping({ userId, typing, timeout: timeout ?? defaultTypingTimeout }))
      : Effect.fail(new Forbidden({ error: `Only ${userId} may say that ${userId} is typing` }))

  // Logging out ends typing.
  const loggedOut = yield* Queue.unbounded<UserId>()
  yield* revocations.observe((ended) =>
    Queue.offerAllUnsafe(
      loggedOut,
      ended.map(({ userId }) => userId)
    )
  )
  const endTyping = Effect.flatMap(Queue.take(loggedOut), (userId) =>
    Effect.forEach(
      ephemeral.roomsTypedIn(userId),
      (roomId) => ask(room(roomId).SetTyping({ userId, typing: false, timeout: 0 })),
      { discard: true }
    )
  )
  yield* keepRunning("Ending the typing of users who logged out", endTyping)

  const refreshMember = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    yield* ask(room(roomId).RefreshMember({ userId, profile: yield* profileOf(userId) }))
  })

  const { create, createSeeded } = creations
  return {
    create,
    createSeeded,
    send: traced("Rooms.send", send),
    setState: traced("Rooms.setState", setState),
    joinRoom,
    leave,
    setMembership: traced("Rooms.setMembership", setMembership),
    redact: traced("Rooms.redact", redact),
    setTyping,
    refreshMember,
    propose
  }
})

export type RoomRequests = Effect.Success<typeof makeRoomRequests>
