/**
 * The implementation of `Federation`: transactions go to `TransactionReceiver`, rooms to `FederationRooms`; queries of
 * profiles and aliases are answered here.
 *
 * A server sees the public fields of a profile, and the fields for users who share a room if one of its users does; that
 * server then shows them only to those users. Fields for contacts never leave this server, because the asking user is not
 * known.
 *
 * Source: "Federation" and "Profiles" of the draft.
 */
import type { ProfileVisibility } from "@greenroom/protocol/api/ProfileApi"
import {
  isUserId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { OutgoingStore, type StoredTransaction } from "@greenroom/store/OutgoingStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { Effect, Layer, Option } from "effect"
import { AppServiceQueries } from "../app-service/AppServiceQueries.ts"
import { Presences } from "../presence/Presences.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { Federation } from "./Federation.ts"
import { FederationRooms } from "./FederationRooms.ts"
import { makePresenceVisibility } from "./internal/PresenceVisibility.ts"
import { toPush } from "./OutgoingPresence.ts"
import { Peers } from "./Peers.ts"
import { RemotePresences } from "./RemotePresences.ts"
import { TransactionReceiver } from "./TransactionReceiver.ts"

/** How many transactions one `/pull` answers with. */
const maxPulled = 5

/** How many servers are named for an alias. */
const maxAliasServers = 50

const makePull = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const store = yield* OutgoingStore
  const rooms = yield* FederationRooms

  const toTransaction = Effect.fnUntraced(function* (origin: ServerName, stored: StoredTransaction) {
    return {
      transaction_id: stored.transactionId,
      ts: stored.ts,
      origin: serverName,
      destination: origin,
      prev_ids: stored.prevIds,
      pdus: yield* rooms.toPdus(stored.events)
    } satisfies JsonObject
  })

  return Effect.fn("Federation.pull")(function* (origin: ServerName, after: ReadonlyArray<string>) {
    const stored = yield* store.after(origin, after, maxPulled)
    return yield* Effect.forEach(stored, (transaction) => toTransaction(origin, transaction))
  })
})

const makeQueries = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const accounts = yield* AccountStore
  const profiles = yield* ProfileStore
  const directory = yield* DirectoryStore
  const appServices = yield* AppServiceQueries
  const roomServers = yield* RoomServerStore
  const presences = yield* Presences
  const visible = yield* makePresenceVisibility

  const mustBeOurs = Effect.fnUntraced(function* (userId: UserId) {
    const account = serverNameOf(userId) === serverName ? yield* accounts.find(userId) : Option.none()
    if (Option.isNone(account) || account.value.deactivatedAt !== undefined) {
      return yield* new NotFound({ error: `There is no user ${userId} on this server` })
    }
  })

  const visibleFields = Effect.fnUntraced(function* (origin: ServerName, userId: UserId) {
    const fields = yield* profiles.fields(userId)
    const forRooms = Array.from(fields.values()).some(({ visibility }) => visibility === "rooms")
    const shares = forRooms && (yield* roomServers.sharing(origin, [userId])).has(userId)
    const isVisible = (visibility: ProfileVisibility) => visibility === "public" || (visibility === "rooms" && shares)
    return Array.from(fields)
      .filter(([, { visibility }]) => isVisible(visibility))
      .map(([name, { value }]) => [name, value] as const)
  })

  const queryProfile = Effect.fn("Federation.queryProfile")(function* (
    origin: ServerName,
    userId: UserId,
    field?: string
  ) {
    yield* mustBeOurs(userId)
    const fields = yield* visibleFields(origin, userId)
    const asked = field === undefined ? fields : fields.filter(([name]) => name === field)
    if (field !== undefined && asked.length === 0) {
      return yield* new NotFound({ error: `The profile of ${userId} has no field ${field} that you may see` })
    }
    return Object.fromEntries(asked) as JsonObject
  })

  const queryDirectory = Effect.fn("Federation.queryDirectory")(function* (origin: ServerName, alias: RoomAlias) {
    const isOurs = serverNameOf(alias) === serverName
    let found = isOurs ? yield* directory.find(alias) : Option.none()
    if (isOurs && Option.isNone(found) && (yield* appServices.forServer(origin).makesAlias(alias))) {
      found = yield* directory.find(alias)
    }
    if (Option.isNone(found)) return yield* new NotFound({ error: `There is no room alias ${alias} on this server` })
    const { roomId, servers } = found.value
    const present = (yield* roomServers.serversOf([roomId])).get(roomId) ?? []
    const first = present.includes(serverName) ? [serverName] : []
    return { room_id: roomId, servers: [...new Set([...first, ...present, ...servers])].slice(0, maxAliasServers) }
  })

  const queryPresence = Effect.fn("Federation.queryPresence")(function* (origin: ServerName, userId: UserId) {
    yield* mustBeOurs(userId)
    if (!(yield* visible(origin, [userId])).has(userId)) {
      return yield* new Forbidden({ error: `No user of ${origin} may see the presence of ${userId}` })
    }
    const [content] = yield* presences.many([userId])
    return toPush(content!)
  })

  return { queryProfile, queryDirectory, queryPresence }
})

const make = Effect.gen(function* () {
  const rooms = yield* FederationRooms
  const transactions = yield* TransactionReceiver
  const peers = yield* Peers
  const remotePresences = yield* RemotePresences
  const pull = yield* makePull
  const queries = yield* makeQueries
  /** A room of another version than the draft's does not exist in its dialect. */
  const inDraft =
    <P extends ReadonlyArray<unknown>, A>(
      ask: (origin: ServerName, roomId: RoomId, ...rest: P) => Effect.Effect<A, MatrixError>
    ) =>
    (origin: ServerName, roomId: RoomId, ...rest: P) =>
      Effect.andThen(rooms.requireDialect(roomId, "draft"), ask(origin, roomId, ...rest))
  const sendJoin = inDraft(rooms.sendJoin)
  const sendKnock = inDraft(rooms.sendKnock)

  return Federation.of({
    getPdu: rooms.getPdu,
    getState: inDraft(rooms.getState),
    backfill: inDraft(rooms.backfill),
    makeJoin: inDraft(rooms.makeJoin),
    makeLeave: inDraft(rooms.makeLeave),
    makeKnock: inDraft(rooms.makeKnock),
    sendLeave: inDraft(rooms.sendLeave),
    sendKnock: (...parameters) => Effect.asVoid(sendKnock(...parameters)),
    invite: inDraft(rooms.invite),
    ...queries,
    pull,
    receiveTransaction: transactions.receive,
    sendJoin: (origin, roomId, eventId, pdu) =>
      sendJoin(origin, roomId, eventId, pdu).pipe(
        Effect.tap(() =>
          isUserId(pdu.state_key) && serverNameOf(pdu.state_key) === origin
            ? remotePresences.want([pdu.state_key])
            : Effect.void
        ),
        Effect.flatMap(({ authChain, state }) =>
          Effect.all({ state: rooms.toPdus(state), auth_chain: rooms.toPdus(authChain) })
        )
      ),
    heardFrom: (origin) => Effect.andThen(remotePresences.heardFrom(origin), peers.heardFrom(origin))
  })
})

/** `Federation` over the services that it hands requests to. */
export const layer = Layer.effect(Federation, make)
