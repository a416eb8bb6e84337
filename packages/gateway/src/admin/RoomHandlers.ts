/**
 * Rooms, as calls of `RoomAdministration`.
 *
 * Source: "Rooms Admin API" and "Purge History API" of Synapse's documentation.
 */
import { MediaAdministration } from "@greenroom/actors/admin/MediaAdministration"
import { RoomAdministration, type RoomDetails } from "@greenroom/actors/admin/RoomAdministration"
import { RoomFinder } from "@greenroom/actors/room/RoomFinder"
import { RoomReader } from "@greenroom/actors/room/RoomReader"
import { RoomSummaries } from "@greenroom/actors/room/RoomSummaries"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import type { HistoryPurgeRequest, ShutdownRequest } from "@greenroom/protocol/admin/SynapseRooms"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { isRoomId, type RoomAlias, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { Context, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { flagOf, makeAdminActions, nextOf, orderOf, pageOf, withoutUndefined } from "./AdminAction.ts"

const toRoom = (room: RoomDetails) => ({
  room_id: room.roomId,
  name: room.name ?? null,
  canonical_alias: room.canonicalAlias ?? null,
  joined_members: room.joinedMembers,
  joined_local_members: room.joinedLocalMembers,
  version: room.version,
  creator: room.creator ?? null,
  encryption: room.encryption ?? null,
  federatable: room.isFederated,
  public: room.isPublic,
  join_rules: room.joinRule ?? null,
  guest_access: room.guestAccess ?? null,
  history_visibility: room.historyVisibility ?? null,
  state_events: room.stateEvents,
  room_type: room.roomType ?? null,
  tombstoned: room.isReplaced
})

/** Our orders by the names that Synapse gives them. */
const orders = {
  name: "name",
  alphabetical: "name",
  size: "joined_members",
  joined_members: "joined_members",
  joined_local_members: "joined_local_members",
  version: "version",
  public: "public",
  canonical_alias: "name",
  creator: "created_at",
  encryption: "name",
  federatable: "name",
  join_rules: "name",
  guest_access: "name",
  history_visibility: "name",
  state_events: "room_id"
} as const
/** Those that begin with the largest. */
const largestFirst: ReadonlySet<string> = new Set(["size", "joined_members", "joined_local_members"])

interface Deletion {
  readonly removalId: string
  readonly status: string
  readonly error: string | undefined
  readonly result: { readonly [name: string]: unknown }
}

const toDeletion = ({ error, result, removalId, status }: Deletion) =>
  withoutUndefined({
    delete_id: removalId,
    status,
    error,
    shutdown_room: {
      kicked_users: result.kicked_users ?? [],
      failed_to_kick_users: result.failed_to_kick_users ?? [],
      local_aliases: result.local_aliases ?? [],
      new_room_id: result.new_room_id ?? null
    }
  })

const toShutdown = (payload: ShutdownRequest = {}) => ({
  block: payload.block ?? false,
  purge: payload.purge ?? true,
  force: payload.force_purge ?? false,
  ...(payload.new_room_user_id == null ? {} : { newRoomUserId: payload.new_room_user_id }),
  ...(payload.room_name == null ? {} : { roomName: payload.room_name }),
  ...(payload.message == null ? {} : { message: payload.message })
})

/** Synapse gives all removals of a room in one answer, and its tools ask for no further page. */
const maxDeletions = 1_000

/** The old version of the endpoint returns moved aliases in the same form. */
const outcomeOf = (removal: Deletion): JsonObject => toDeletion(removal).shutdown_room as JsonObject

export const roomHandlers = HttpApiBuilder.group(SynapseAdminApi, "synapseAdmin.rooms", (handlers) =>
  withServices(function* () {
    const { asAdmin, services } = yield* makeAdminActions
    const directory = yield* Rooms
    const reader = yield* RoomReader
    const finder = yield* RoomFinder
    const summaries = yield* RoomSummaries
    const rooms = Context.get(services, RoomAdministration)
    const media = Context.get(services, MediaAdministration)

    const roomIdOf = (room: RoomId | RoomAlias): Effect.Effect<RoomId, MatrixError> =>
      isRoomId(room)
        ? Effect.succeed(room as RoomId)
        : Effect.map(directory.resolveAlias(room as RoomAlias), ({ room_id }) => room_id)

    /** Runs the removal in the background; a recorded removal continues after a restart too. */
    const begin = (removalId: string) => Effect.forkDetach(Effect.ignore(rooms.run(removalId)))

    const beginPurge = Effect.fnUntraced(function* (roomId: RoomId, payload: HistoryPurgeRequest, admin: UserId) {
      const { purge_up_to_event_id: eventId, purge_up_to_ts: time } = payload
      if (eventId == null && time == null) {
        return yield* new BadJson({ error: "purge_up_to_ts or purge_up_to_event_id: must be given" })
      }
      const before = eventId == null ? { time: time! } : { eventId }
      const purge = { before, local: payload.delete_local_events ?? false }
      const removalId = yield* rooms.purgeHistory(roomId, purge, admin)
      yield* begin(removalId)
      return { purge_id: removalId }
    })

    return handlers
      .handle("list", ({ query }) =>
        asAdmin({ action: "room.list", details: { ...query } }, () =>
          Effect.gen(function* () {
            const page = pageOf(query)
            const order = query.order_by ?? "name"
            const orderBy = yield* orderOf(orders, order)
            const found = yield* rooms.list({
              ...page,
              orderBy,
              descending: page.descending !== largestFirst.has(order),
              search: query.search_term,
              isPublic: flagOf(query.public_rooms),
              isEmpty: flagOf(query.empty_rooms)
            })
            return withoutUndefined({
              rooms: found.rooms.map(toRoom),
              offset: page.from,
              total_rooms: found.total,
              next_batch: nextOf(page.from, found.rooms.length, found.total),
              prev_batch: page.from > 0 ? Math.max(0, page.from - page.limit) : undefined
            })
          })
        )
      )
      .handle("get", ({ params: { roomId } }) =>
        asAdmin({ action: "room.show", target: roomId }, () =>
          Effect.map(rooms.find(roomId), (room) => ({
            ...toRoom(room),
            avatar: room.avatarUrl ?? null,
            topic: room.topic ?? null,
            creation_ts: room.createdAt,
            forgotten: room.joinedLocalMembers === 0
          }))
        )
      )
      .handle("members", ({ params: { roomId } }) =>
        asAdmin({ action: "room.members", target: roomId }, () =>
          Effect.map(rooms.members(roomId), (members) => ({ members, total: members.length }))
        )
      )
      .handle("hierarchy", ({ params: { roomId }, query: { from, limit, max_depth, suggested_only } }) =>
        asAdmin({ action: "room.hierarchy", target: roomId }, () =>
          Effect.map(
            summaries.localHierarchy(roomId, {
              from,
              limit,
              maxDepth: max_depth,
              suggestedOnly: flagOf(suggested_only) ?? false
            }),
            ({ rooms, ...rest }) => ({ ...rest, rooms: rooms as unknown as ReadonlyArray<JsonObject> })
          )
        )
      )
      .handle("state", ({ params: { roomId } }) =>
        asAdmin({ action: "room.state", target: roomId }, () =>
          Effect.map(rooms.state(roomId), (state) => ({ state: state as unknown as ReadonlyArray<JsonObject> }))
        )
      )
      .handle("messages", ({ params: { roomId }, query: { dir = "f", ...query } }) =>
        CurrentSession.use((session) =>
          asAdmin({ action: "room.messages", target: roomId }, () =>
            Effect.map(reader.messages(session, roomId, { ...query, dir, asAdministrator: true }), withoutUndefined)
          )
        )
      )
      .handle("context", ({ params: { eventId, roomId }, query }) =>
        CurrentSession.use((session) =>
          asAdmin({ action: "room.context", target: roomId, details: { event_id: eventId } }, () =>
            Effect.map(reader.context(session, roomId, eventId, { ...query, asAdministrator: true }), withoutUndefined)
          )
        )
      )
      .handle("event", ({ params: { eventId } }) =>
        CurrentSession.use((session) =>
          asAdmin({ action: "room.event", details: { event_id: eventId } }, () =>
            Effect.map(reader.anyEvent(session, eventId), (event) => withoutUndefined({ event }))
          )
        )
      )
      .handle("eventAt", ({ params: { roomId }, query: { dir = "f", ts } }) =>
        asAdmin({ action: "room.event_at", target: roomId, details: { ts } }, () => finder.eventNear(roomId, ts, dir))
      )
      .handle("block", ({ params: { roomId } }) =>
        asAdmin({ action: "room.show_block", target: roomId }, () =>
          Effect.map(rooms.blockedBy(roomId), (by) =>
            by === undefined ? { block: false } : { block: true, user_id: by }
          )
        )
      )
      .handle("setBlock", ({ params: { roomId }, payload: { block } }) =>
        asAdmin({ action: "room.block", target: roomId, details: { block } }, (admin) =>
          Effect.as(rooms.setBlocked(roomId, block ? admin : undefined), { block })
        )
      )
      .handle("deleteNow", ({ params: { roomId }, payload }) =>
        asAdmin({ action: "room.delete", target: roomId, details: { ...payload } }, (admin) =>
          Effect.gen(function* () {
            const removalId = yield* rooms.shutDown(roomId, toShutdown(payload), admin)
            return outcomeOf(yield* rooms.run(removalId))
          })
        )
      )
      .handle("delete", ({ params: { roomId }, payload }) =>
        asAdmin({ action: "room.delete", target: roomId, details: { ...payload } }, (admin) =>
          Effect.gen(function* () {
            const removalId = yield* rooms.shutDown(roomId, toShutdown(payload), admin)
            yield* begin(removalId)
            return { delete_id: removalId }
          })
        )
      )
      .handle("deletionsOfRoom", ({ params: { roomId }, query }) =>
        asAdmin({ action: "room.delete_status", target: roomId }, () =>
          Effect.gen(function* () {
            const { from, limit } = pageOf({ ...query, limit: query.limit ?? maxDeletions })
            const found = yield* rooms.removalsOf(roomId, { from, limit: limit + 1 }, "room")
            if (found.length === 0) return yield* new NotFound({ error: `${roomId} was not deleted` })
            return withoutUndefined({
              results: found.slice(0, limit).map(toDeletion),
              next_token: nextOf(from, limit, from + found.length)
            })
          })
        )
      )
      .handle("deletion", ({ params: { deleteId } }) =>
        asAdmin({ action: "room.delete_status", details: { delete_id: deleteId } }, () =>
          Effect.map(rooms.removal(deleteId, "room"), toDeletion)
        )
      )
      .handle("purgeHistory", ({ params: { roomId }, payload }) =>
        asAdmin({ action: "room.purge_history", target: roomId, details: { ...payload } }, (admin) =>
          beginPurge(roomId, payload, admin)
        )
      )
      .handle("purgeHistoryBefore", ({ params: { eventId, roomId }, payload }) => {
        const purge = { ...payload, purge_up_to_event_id: eventId }
        return asAdmin({ action: "room.purge_history", target: roomId, details: purge }, (admin) =>
          beginPurge(roomId, purge, admin)
        )
      })
      .handle("purgeStatus", ({ params: { purgeId } }) =>
        asAdmin({ action: "room.purge_status", details: { purge_id: purgeId } }, () =>
          Effect.map(rooms.removal(purgeId, "history"), ({ error, finishedAt, status }) =>
            withoutUndefined({ status: finishedAt === undefined ? "active" : status, error })
          )
        )
      )
      .handle("makeRoomAdmin", ({ params, payload }) =>
        asAdmin({ action: "room.make_admin", target: params.roomId, details: { ...payload } }, (admin) =>
          Effect.flatMap(roomIdOf(params.roomId), (roomId) =>
            Effect.as(rooms.makeAdmin(roomId, payload?.user_id ?? admin), {})
          )
        )
      )
      .handle("extremities", ({ params }) =>
        asAdmin({ action: "room.extremities", target: params.roomId }, () =>
          Effect.flatMap(roomIdOf(params.roomId), (roomId) =>
            Effect.map(rooms.extremities(roomId), (results) => ({ count: results.length, results: [...results] }))
          )
        )
      )
      .handle("media", ({ params: { roomId } }) =>
        asAdmin({ action: "room.media", target: roomId }, () =>
          Effect.map(media.inRoom(roomId), (uris) => {
            const isOurs = (uri: string) => media.isOurs(uri.slice("mxc://".length, uri.lastIndexOf("/")) as never)
            return { local: uris.filter(isOurs), remote: uris.filter((uri) => !isOurs(uri)) }
          })
        )
      )
      .handle("quarantineMedia", ({ params: { roomId } }) =>
        asAdmin({ action: "media.quarantine_room", target: roomId }, (admin) =>
          Effect.map(media.quarantineRoom(roomId, admin), (num_quarantined) => ({ num_quarantined }))
        )
      )
  })
)
