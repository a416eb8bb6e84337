/**
 * Queries of our users to other servers: profiles, aliases and public rooms. Profiles and lists are cached for a short time, so
 * that a popular name does not cost its server a request for each reader. Simultaneous queries for the same share one request.
 *
 * Source: "Federation" of the draft, "Querying for information" of the server-server specification.
 */
import {
  type RoomAlias,
  type RoomId,
  type ServerName,
  serverNameOf,
  type UserId
} from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { Context, Effect, Exit, Layer } from "effect"
import type { PublicRoomsRequest } from "../room/PublicRooms.ts"
import { RemoteDirectory } from "../room/RemoteDirectory.ts"
import { FederationClient } from "./FederationClient.ts"
import type { RemoteError } from "./RemoteError.ts"
import { ServerServerClient } from "./ServerServerClient.ts"

/** The lifetimes of a cached answer and of a cached failure. */
const answerLifetime = "1 minute"
const failureLifetime = "5 seconds"

/** How many profiles are kept: each has up to `answerLimits.profile` bytes, and so many values. */
const profilesKept = 1_000
const profileValues = 1_000

/** How many aliases are asked for at once. */
const aliasesKept = 10_000

/**
 * How many pages of lists of public rooms, and how many spaces, are kept: each has up to `answerLimits.summaries` bytes, and so many
 * values.
 */
const pages = 50
const pageValues = 20_000

const pageError =
  (server: ServerName) =>
  (error: RemoteError): MatrixError =>
    error._tag === "RemoteRefused" && (error.status === 403 || error.status === 401)
      ? new Forbidden({ error: `${server} does not publish its public rooms` })
      : new NotFound({ error: `${server} cannot be asked for its public rooms now` })

/** The error for the user. If the server cannot be asked, it is unknown whether the user or alias exists. */
const toMatrixError =
  (what: UserId | RoomAlias) =>
  (error: RemoteError): MatrixError => {
    if (error._tag === "RemoteRefused" && error.status === 403) return new Forbidden({ error: error.error })
    return error._tag === "RemoteRefused" && error.status === 404
      ? new NotFound({ error: `There is no ${what}` })
      : new NotFound({ error: `${serverNameOf(what)} cannot be asked for ${what} now` })
  }

/** Whether a value contains at most so many values. Small values take many times the memory of their JSON. */
const hasFewValues = (value: unknown, most: number): boolean => {
  let left = most
  const look = (part: unknown): boolean =>
    --left >= 0 && (typeof part !== "object" || part === null || Object.values(part).every(look))
  return look(value)
}

/** Answers with too many values are not cached. Only requests that wait for such an answer share it. */
const timeToLive = (most: number) => (exit: Exit.Exit<unknown, unknown>) =>
  !Exit.isSuccess(exit) ? failureLifetime : hasFewValues(exit.value, most) ? answerLifetime : 0

/** Aliases are not cached: one may lead to another room at any time, and a user who joins by it expects that room. */
const aliasLifetime = 0

/** A refusal to describe a room is not cached: the membership that caused it may change soon. */
const hierarchyLifetime = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isSuccess(exit) && hasFewValues(exit.value, pageValues) ? answerLifetime : 0

const make = Effect.gen(function* () {
  const client = yield* FederationClient
  const today = yield* ServerServerClient
  const profiles = yield* MonotonicCache.makeWith(
    (userId: UserId) => Effect.mapError(client.queryProfile(userId), toMatrixError(userId)),
    { capacity: profilesKept, timeToLive: timeToLive(profileValues) }
  )
  const aliases = yield* MonotonicCache.make({
    lookup: (alias: RoomAlias) => Effect.mapError(client.queryDirectory(alias), toMatrixError(alias)),
    capacity: aliasesKept,
    timeToLive: aliasLifetime
  })
  const publicRooms = yield* MonotonicCache.makeWith(
    (asked: string) => {
      const [server, request]: [ServerName, PublicRoomsRequest] = JSON.parse(asked)
      return Effect.mapError(today.publicRooms(server, request), pageError(server))
    },
    { capacity: pages, timeToLive: timeToLive(pageValues) }
  )
  const hierarchies = yield* MonotonicCache.makeWith(
    (asked: string) => {
      const [server, roomId, suggestedOnly]: [ServerName, RoomId, boolean] = JSON.parse(asked)
      return Effect.mapError(
        today.hierarchy(server, roomId, suggestedOnly),
        () => new NotFound({ error: `${server} has no summary of ${roomId}` })
      )
    },
    { capacity: pages, timeToLive: hierarchyLifetime }
  )
  const profile = (userId: UserId) => MonotonicCache.get(profiles, userId)
  return Context.make(RemoteQueries, RemoteQueries.of({ profile })).pipe(
    Context.add(RemoteDirectory, {
      profile,
      resolve: (alias) => MonotonicCache.get(aliases, alias),
      publicRooms: (server, request) => MonotonicCache.get(publicRooms, JSON.stringify([server, request])),
      hierarchy: (...asked) => MonotonicCache.get(hierarchies, JSON.stringify(asked)),
      eventNear: (server, roomId, ...moment) =>
        Effect.mapError(
          today.timestampToEvent(server, roomId, ...moment),
          () => new NotFound({ error: `${server} knows no event of ${roomId} near that time` })
        )
    })
  )
})

/** Profiles, aliases and public rooms of other servers. */
export class RemoteQueries extends Context.Service<
  RemoteQueries,
  {
    /** The fields of the profile that the user's server publishes. Errors: M_NOT_FOUND, M_FORBIDDEN. */
    readonly profile: (userId: UserId) => Effect.Effect<JsonObject, MatrixError>
  }
>()("greenroom/actors/federation/RemoteQueries") {
  /** Also provides `RemoteDirectory`. */
  static readonly layer = Layer.effectContext(make)
}
