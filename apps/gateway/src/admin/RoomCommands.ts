/**
 * Rooms on the command line. A running server shuts rooms down and purges them: it starts the requested work within seconds,
 * or at its next start.
 *
 *     greenroom room shut-down '!room:example.org' --block
 */
import { randomBytes } from "node:crypto"
import { isRoomId, type RoomId } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import { AuditStore } from "@greenroom/store/AuditStore"
import { type AdministeredRoom, RoomAdministrationStore } from "@greenroom/store/RoomAdministrationStore"
import { type Removal, RoomRemovalStore } from "@greenroom/store/RoomRemovalStore"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { audited, commandLine } from "./Audited.ts"
import { type CommandOptions, commandOptions } from "./CommandOptions.ts"
import { AdminFailure, print, printAll, printLine, printPages, requirePositive, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"
import { makeProgress } from "./Progress.ts"

const room = Argument.String("room").pipe(Argument.withDescription("A room ID"))

const stores = Layer.mergeAll(RoomAdministrationStore.layer, RoomRemovalStore.layer, AuditStore.layer)

const run = <A, E>(
  flags: CommandOptions,
  use: Effect.Effect<A, E, RoomAdministrationStore | RoomRemovalStore | AuditStore>
) =>
  Effect.provide(
    use,
    onDatabase(flags, () => stores)
  )

const roomIdOf = (text: string) =>
  isRoomId(text)
    ? Effect.succeed(text as RoomId)
    : Effect.fail(new AdminFailure({ message: `${text} is not a room ID, such as !opaque:example.org` }))

const existing = Effect.fnUntraced(function* (text: string) {
  const roomId = yield* roomIdOf(text)
  const found = yield* RoomAdministrationStore.use((store) => store.find(roomId))
  return Option.isSome(found) ? found.value : yield* new AdminFailure({ message: `There is no room ${roomId}` })
})

const describe = ({
  createdAt,
  isPublic,
  joinedLocalMembers,
  joinedMembers,
  name,
  roomId,
  version
}: AdministeredRoom) =>
  [
    roomId,
    JSON.stringify(name ?? ""),
    `${plural(joinedMembers, "member")}, ${joinedLocalMembers} of this server`,
    `version ${version}`,
    ...(isPublic ? ["public"] : []),
    `since ${time(createdAt)}`
  ].join("  ")

/** Without the numbers that the database alone knows. */
const toValue = ({ roomNid: _, state: __, ...room }: AdministeredRoom) => room

const describeRemoval = ({ createdAt, error, kind, removalId, roomId, status }: Removal): string =>
  [removalId, roomId, kind, status, time(createdAt), ...(error === undefined ? [] : [error])].join("  ")

const list = Command.make(
  "list",
  {
    ...commandOptions,
    search: Flag.String("search").pipe(Flag.optional, Flag.withDescription("A part of the name or of an alias")),
    limit: Flag.Int("limit").pipe(Flag.withDefault(100), Flag.withDescription("How many rooms (default: 100)"))
  },
  (options) =>
    run(
      options,
      Effect.gen(function* () {
        yield* requirePositive("--limit", options.limit)
        const { rooms } = yield* RoomAdministrationStore.use((store) =>
          store.list({
            from: 0,
            limit: options.limit,
            orderBy: "joined_members",
            descending: true,
            search: Option.getOrUndefined(options.search)
          })
        )
        yield* printAll(options, rooms, describe, toValue)
      })
    )
).pipe(Command.withDescription("List rooms, the largest first"))

const show = Command.make("show", { ...commandOptions, room }, (options) =>
  run(
    options,
    Effect.gen(function* () {
      const found = yield* existing(options.room)
      const members = yield* RoomAdministrationStore.use((store) => store.members(found.roomNid, ["join"], undefined))
      yield* print(options, { ...toValue(found), members }, [describe(found), ...members].join("\n"))
    })
  )
).pipe(Command.withDescription("Show a room and its members"))

const setBlocked = (name: string, blocked: boolean, description: string) =>
  Command.make(name, { ...commandOptions, room }, (options) =>
    run(
      options,
      Effect.gen(function* () {
        const roomId = yield* roomIdOf(options.room)
        yield* RoomRemovalStore.use((store) => store.setBlocked(roomId, blocked ? commandLine : undefined)).pipe(
          audited({ action: "room.block", target: roomId, details: { block: blocked } })
        )
        yield* printLine(options, `${roomId} is ${blocked ? "blocked" : "not blocked any more"}`)
      })
    )
  ).pipe(Command.withDescription(description))

const addRemoval = Effect.fnUntraced(function* (kind: Removal["kind"], roomId: RoomId, options: object) {
  const removalId = randomBytes(8).toString("hex")
  const action = kind === "room" ? "room.delete" : "room.purge_history"
  yield* RoomRemovalStore.use((store) =>
    store.addRemoval({ removalId, kind, roomId, requestedBy: commandLine, options })
  ).pipe(audited({ action, target: roomId, details: { ...options } }))
  return removalId
})

const noted = (removalId: string) =>
  `${removalId} is queued: a running server does it within seconds (see: greenroom room removals ROOM)`

const wait = Flag.Boolean("wait").pipe(
  Flag.withDefault(false),
  Flag.withDescription("Wait until a running server has done it, with a bar on a terminal")
)

/** How often the progress of a removal is read, and after how many reads without a start the command fails. */
const lookInterval = "1 second"
const maxLooks = 60

/** Shows the progress of a removal until its end. Fails if no server starts it. */
const followRemoval = Effect.fnUntraced(function* (removalId: string, roomId: RoomId) {
  const { eventsOf } = yield* RoomAdministrationStore
  const { removal } = yield* RoomRemovalStore
  const before = yield* eventsOf(roomId)
  const progress = makeProgress()
  const follow = Effect.gen(function* () {
    for (let looks = 0; ; looks += 1) {
      const found = Option.getOrUndefined(yield* removal(removalId))
      if (found === undefined || found.finishedAt !== undefined) return found
      if (found.status === "scheduled" && looks >= maxLooks) {
        const message = `No server has started ${removalId}: it stays queued for the next server that runs`
        return yield* new AdminFailure({ message })
      }
      const left = progress.isShown ? yield* eventsOf(roomId) : before
      progress.show({
        what: `${found.status.replace("_", " ")}, ${plural(left, "event")} left`,
        done: 1 - left / Math.max(before, 1)
      })
      yield* Effect.sleep(lookInterval)
    }
  })
  return yield* Effect.ensuring(follow, Effect.sync(progress.clear))
})

/** Prints that a removal is queued or, if the command waits for it, how it ended. */
const report = Effect.fnUntraced(function* (
  options: { readonly json: boolean; readonly wait: boolean },
  removalId: string,
  roomId: RoomId
) {
  if (!options.wait) return yield* printLine(options, noted(removalId), { id: removalId })
  const removal = yield* followRemoval(removalId, roomId)
  if (removal?.error !== undefined) return yield* new AdminFailure({ message: removal.error })
  yield* printLine(options, `${removalId} is complete`, { id: removalId, ...removal?.result })
})

const shutDown = Command.make(
  "shut-down",
  {
    ...commandOptions,
    room,
    wait,
    block: Flag.Boolean("block").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Block the room: users of this server cannot enter it again")
    ),
    keep: Flag.Boolean("keep").pipe(Flag.withDefault(false), Flag.withDescription("Keep its events in the database")),
    force: Flag.Boolean("force").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Purge the room even if users could not leave")
    )
  },
  (options) =>
    run(
      options,
      Effect.gen(function* () {
        const { roomId } = yield* existing(options.room)
        const wanted = { block: options.block, purge: !options.keep, force: options.force }
        const removalId = yield* addRemoval("room", roomId, wanted)
        yield* report(options, removalId, roomId)
      })
    )
).pipe(Command.withDescription("Remove all users of this server from a room, and the room from the database"))

const purgeHistory = Command.make(
  "purge-history",
  {
    ...commandOptions,
    room,
    wait,
    days: Flag.Int("days").pipe(Flag.withDescription("Only events older than this number of days")),
    local: Flag.Boolean("local").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Also events of users of this server, which other servers may not have")
    )
  },
  (options) =>
    run(
      options,
      Effect.gen(function* () {
        yield* requirePositive("--days", options.days)
        const { roomId } = yield* existing(options.room)
        const before = { time: Date.now() - options.days * 86_400_000 }
        const point = yield* RoomAdministrationStore.use((store) => store.historyPoint(roomId, before))
        if (point === undefined) return yield* printLine(options, "There are no such events")
        const removalId = yield* addRemoval("history", roomId, { point, local: options.local })
        yield* report(options, removalId, roomId)
      })
    )
).pipe(Command.withDescription("Remove old events of a room, except state events"))

const removals = Command.make("removals", { ...commandOptions, room }, (options) =>
  run(
    options,
    Effect.gen(function* () {
      const roomId = yield* roomIdOf(options.room)
      const { removalsOf } = yield* RoomRemovalStore
      yield* printPages(options, (page) => removalsOf(roomId, page), describeRemoval)
    })
  )
).pipe(Command.withDescription("List the removals of a room and of its history with their progress"))

export const command = Command.make("room").pipe(
  Command.withDescription("Manage rooms"),
  Command.withSubcommands([
    list,
    show,
    setBlocked("block", true, "Block a room: users of this server cannot enter it"),
    setBlocked("unblock", false, "Unblock a room"),
    shutDown,
    purgeHistory,
    removals
  ])
)
