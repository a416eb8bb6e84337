/**
 * Connections of sliding sync, with those that this node has read lately in memory. A version of a connection never changes,
 * so a cached one is right on every node; the store decides whether it is still current when it is written.
 */
import {
  type ConnectionKey,
  type SentRoom,
  type SlidingConnection,
  SlidingConnectionStore
} from "@greenroom/store/SlidingConnectionStore"
import { formatToken, parseToken, type StreamToken } from "@greenroom/store/StreamToken"
import { Effect, Option } from "effect"
import { periodicallyOnce } from "../../runtime/Singletons.ts"

/** How many rooms the versions in memory have together; a version counts as one more. */
const maxRooms = 500_000

/** The most room configurations of one connection. With more, the client begins a new connection. */
const maxConfigs = 500
/** How many characters these settings have in all. */
const maxConfigsLength = 1_000_000

const sweepInterval = 60 * 60_000

/** The content of a `pos`: `c<connection>.<version>_`, and a stream token. */
export interface SlidingPosition {
  readonly connection: number
  readonly version: number
  readonly token: StreamToken
}

const pattern = /^c([0-9]{1,15})\.([0-9]{1,15})_(.+)$/

export const parsePos = (pos: string): Option.Option<SlidingPosition> => {
  const [, connection, version, token = ""] = pattern.exec(pos) ?? []
  if (connection === undefined || version === undefined) return Option.none()
  return Option.map(parseToken(token), (token) => ({
    connection: Number(connection),
    version: Number(version),
    token
  }))
}

export const formatPos = ({ connection, token, version }: SlidingPosition): string =>
  `c${connection}.${version}_${formatToken(token)}`

const lengthOf = (texts: ReadonlyArray<string>): number => texts.reduce((length, text) => length + text.length, 0)

/** The changes that an answer makes to a connection. */
export interface ConnectionChanges {
  readonly configs: ReadonlyArray<string>
  readonly rooms: ReadonlyMap<number, SentRoom>
}

export const makeSlidingConnections = Effect.gen(function* () {
  const store = yield* SlidingConnectionStore
  /** Oldest use first. */
  const known = new Map<string, { readonly key: ConnectionKey; readonly connection: SlidingConnection }>()
  let rooms = 0

  const idOf = ({ connection, version }: Pick<SlidingConnection, "connection" | "version">) =>
    `${connection}.${version}`

  const forget = (id: string) => {
    const found = known.get(id)
    if (found === undefined) return
    known.delete(id)
    rooms -= found.connection.rooms.size + 1
  }

  const keep = (key: ConnectionKey, connection: SlidingConnection) => {
    const id = idOf(connection)
    forget(id)
    known.set(id, { key, connection })
    rooms += connection.rooms.size + 1
    for (const oldest of known.keys()) {
      if (rooms <= maxRooms || oldest === id) break
      forget(oldest)
    }
  }

  const isSame = (a: ConnectionKey, b: ConnectionKey) =>
    a.userId === b.userId && a.deviceId === b.deviceId && a.name === b.name

  const find = Effect.fnUntraced(function* (key: ConnectionKey, connection: number, version: number) {
    const remembered = known.get(`${connection}.${version}`)
    if (remembered !== undefined) {
      return isSame(remembered.key, key) ? Option.some(remembered.connection) : Option.none<SlidingConnection>()
    }
    const found = yield* store.read(key, connection, version)
    if (Option.isSome(found)) keep(key, found.value)
    return found
  })

  yield* periodicallyOnce("Removing connections of sliding sync", sweepInterval, store.removeUnused)

  return {
    /** Undefined if the client must start anew. */
    find,
    open: store.open,
    /** The next version, or the same one if nothing changed. Undefined if the client must start anew. */
    write: Effect.fnUntraced(function* (key: ConnectionKey, from: SlidingConnection, changes: ConnectionChanges) {
      if (changes.rooms.size === 0) return Option.some(from)
      if (changes.configs.length > maxConfigs || lengthOf(changes.configs) > maxConfigsLength) {
        return Option.none<SlidingConnection>()
      }
      const written = yield* store.write(from, changes.configs, changes.rooms)
      if (Option.isSome(written)) keep(key, written.value)
      return written
    })
  }
})

export type SlidingConnections = Effect.Success<typeof makeSlidingConnections>
