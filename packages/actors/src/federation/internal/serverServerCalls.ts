/**
 * What the endpoints of `ServerServerClient` have in common: paths, and the two versions of some endpoints.
 */
import { Effect } from "effect"
import { type FederationCalls, isUnrecognized, pathOf } from "../FederationCalls.ts"
import type { RemoteError } from "../RemoteError.ts"

/** Makes signed requests to other home servers. */
export type Calls = FederationCalls["Service"]

/** The prefix of the server-server API. */
const prefix = "/_matrix/federation"

/** The path of an endpoint, from its version and parts. */
export const path = (version: "v1" | "v2", ...parts: ReadonlyArray<string>): string =>
  `${prefix}/${version}${pathOf(...parts)}`

/** Asks by the second version of an endpoint, and by the first where the server has no second one. */
export const newest = <A>(
  second: Effect.Effect<A, RemoteError>,
  first: Effect.Effect<A, RemoteError>
): Effect.Effect<A, RemoteError> =>
  Effect.catchIf(second, isUnrecognized, (failure) =>
    Effect.mapError(first, (error) => (isUnrecognized(error) ? failure : error))
  )
