/**
 * Data that clients keep on the server: account data, tags of rooms, filters. Only the user may read and write it.
 *
 * Source: "Client Config", "Room Tagging" and "Filtering" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import {
  Forbidden,
  type MatrixError,
  NotFound,
  TooLarge,
  Unrecognized,
  UserLimitExceeded
} from "@greenroom/protocol/MatrixError"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { setNewest } from "@greenroom/store/BoundedMap"
import { ClientSettingsStore } from "@greenroom/store/ClientSettingsStore"
import { Context, Effect, Layer, Option } from "effect"
import type { Session } from "../runtime/Session.ts"
import { pushRulesContent, UserPushRules } from "./push/UserPushRules.ts"

/** The longest content of one entry, in characters of JSON. */
const maxContentLength = 262_144
/** The most entries that a user keeps, of all rooms together. */
export const maxEntries = 10_000
/** The most tags of one room. */
const maxTags = 100
/** How many filters are kept in memory, and the longest of them, in characters of JSON. */
const maxKeptFilters = 10_000
const maxKeptFilter = 2_000

/** The most filters that a user defines, and the longest of them, in characters of JSON. */
const maxFilters = 1_000
const maxFilterLength = 65_536

const tagType = "m.tag"

/** Types that only the server writes. */
const controlled: ReadonlySet<string> = new Set(["m.fully_read", "m.push_rules"])

const mustBeSelf = ({ userId }: Session, owner: UserId): Effect.Effect<void, Forbidden> =>
  userId === owner
    ? Effect.void
    : Effect.fail(new Forbidden({ error: `userId: the access token belongs to ${userId}` }))

const full = new UserLimitExceeded({
  error: `A user has at most ${maxEntries} entries of account data, and 16 MiB of large ones`
})

const isEmpty = (content: JsonObject): boolean => Object.keys(content).length === 0

const tagsOf = (content: JsonObject): JsonObject => (isJsonObject(content.tags) ? content.tags : {})

const make = Effect.gen(function* () {
  const store = yield* AccountDataStore
  const settings = yield* ClientSettingsStore
  const pushRules = yield* UserPushRules

  const set = Effect.fn("AccountData.set")(function* (
    session: Session,
    owner: UserId,
    roomId: RoomId | undefined,
    type: string,
    content: JsonObject
  ) {
    yield* mustBeSelf(session, owner)
    if (controlled.has(type)) return yield* new Unrecognized({ error: `type: ${type} is set by the server` })
    if (JSON.stringify(content).length > maxContentLength) {
      return yield* new TooLarge({ error: `The content has more than ${maxContentLength} characters` })
    }
    if (!(yield* store.set(owner, roomId, type, content, maxEntries))) {
      return yield* full
    }
  })

  const remove = Effect.fn("AccountData.remove")(function* (
    session: Session,
    owner: UserId,
    roomId: RoomId | undefined,
    type: string
  ) {
    yield* mustBeSelf(session, owner)
    if (controlled.has(type)) return yield* new Unrecognized({ error: `type: ${type} is set by the server` })
    yield* store.update(owner, roomId, type, (before) => (isEmpty(before) ? before : {}), maxEntries)
  })

  const get = Effect.fn("AccountData.get")(function* (
    session: Session,
    owner: UserId,
    roomId: RoomId | undefined,
    type: string
  ) {
    yield* mustBeSelf(session, owner)
    if (roomId === undefined && type === "m.push_rules") return pushRulesContent(yield* pushRules.ruleset(owner))
    const found = yield* store.get(owner, roomId, type)
    return Option.isSome(found)
      ? found.value
      : yield* new NotFound({ error: `There is no account data of the type ${type}` })
  })

  const tags = Effect.fn("AccountData.tags")(function* (session: Session, owner: UserId, roomId: RoomId) {
    yield* mustBeSelf(session, owner)
    return tagsOf(Option.getOrElse(yield* store.get(owner, roomId, tagType), (): JsonObject => ({})))
  })

  const setTag = Effect.fn("AccountData.setTag")(function* (
    session: Session,
    owner: UserId,
    roomId: RoomId,
    tag: string,
    content: JsonObject | undefined
  ) {
    yield* mustBeSelf(session, owner)
    let refused: MatrixError | undefined
    const withTag = (before: JsonObject): JsonObject => {
      refused = undefined
      const { [tag]: known, ...others } = tagsOf(before)
      if (content === undefined) return known === undefined ? before : { ...before, tags: others }
      const after = { ...before, tags: { ...others, [tag]: content } }
      if (known === undefined && Object.keys(others).length >= maxTags) {
        refused = new UserLimitExceeded({ error: `A room has at most ${maxTags} tags` })
      } else if (JSON.stringify(after).length > maxContentLength) {
        refused = new TooLarge({ error: `The tags of a room have at most ${maxContentLength} characters` })
      }
      return refused === undefined ? after : before
    }
    const isWritten = yield* store.update(owner, roomId, tagType, withTag, maxEntries)
    if (refused !== undefined) return yield* Effect.fail(refused as MatrixError)
    if (!isWritten) return yield* full
  })

  const addFilter = Effect.fn("AccountData.addFilter")(function* (
    session: Session,
    owner: UserId,
    definition: JsonObject
  ) {
    yield* mustBeSelf(session, owner)
    if (JSON.stringify(definition).length > maxFilterLength) {
      return yield* new TooLarge({ error: `The filter has more than ${maxFilterLength} characters` })
    }
    const id = yield* settings.addFilter(owner, definition, maxFilters)
    return Option.isSome(id)
      ? id.value
      : yield* new UserLimitExceeded({ error: `A user defines at most ${maxFilters} filters` })
  })

  /** Filters never change, and each /sync names one. */
  const recentFilters = new Map<string, JsonObject>()

  const filter = Effect.fn("AccountData.filter")(function* (session: Session, owner: UserId, filterId: string) {
    yield* mustBeSelf(session, owner)
    const key = `${owner} ${filterId}`
    const known = recentFilters.get(key)
    if (known !== undefined) return known
    const found = yield* settings.filter(owner, filterId)
    if (Option.isNone(found)) return yield* new NotFound({ error: `There is no filter ${filterId.slice(0, 32)}` })
    if (JSON.stringify(found.value).length <= maxKeptFilter) setNewest(recentFilters, key, found.value, maxKeptFilters)
    return found.value
  })

  return AccountData.of({ set, remove, get, tags, setTag, addFilter, filter })
})

/** Account data, tags of rooms, and filters of a user. */
export class AccountData extends Context.Service<
  AccountData,
  {
    /**
     * Sets an entry; an empty object deletes it, as MSC3391 has it. Errors: M_FORBIDDEN, M_TOO_LARGE, M_USER_LIMIT_EXCEEDED,
     * M_UNRECOGNIZED for types that the server sets.
     */
    readonly set: (
      session: Session,
      owner: UserId,
      roomId: RoomId | undefined,
      type: string,
      content: JsonObject
    ) => Effect.Effect<void, MatrixError>
    /** Deletes an entry, if there is one. Errors: M_FORBIDDEN, M_UNRECOGNIZED. */
    readonly remove: (
      session: Session,
      owner: UserId,
      roomId: RoomId | undefined,
      type: string
    ) => Effect.Effect<void, MatrixError>
    /** Errors: M_FORBIDDEN, M_NOT_FOUND. */
    readonly get: (
      session: Session,
      owner: UserId,
      roomId: RoomId | undefined,
      type: string
    ) => Effect.Effect<JsonObject, MatrixError>
    /** The tags of a room by name. */
    readonly tags: (session: Session, owner: UserId, roomId: RoomId) => Effect.Effect<JsonObject, MatrixError>
    /** Gives a room a tag; undefined takes it away. */
    readonly setTag: (
      session: Session,
      owner: UserId,
      roomId: RoomId,
      tag: string,
      content: JsonObject | undefined
    ) => Effect.Effect<void, MatrixError>
    /** The ID of a filter. The same filter has the same ID. */
    readonly addFilter: (session: Session, owner: UserId, definition: JsonObject) => Effect.Effect<string, MatrixError>
    /** Errors: M_NOT_FOUND. */
    readonly filter: (session: Session, owner: UserId, filterId: string) => Effect.Effect<JsonObject, MatrixError>
  }
>()("greenroom/actors/AccountData") {
  static readonly layer = Layer.effect(AccountData, make)
}
