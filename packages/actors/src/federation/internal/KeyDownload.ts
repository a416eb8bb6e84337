/**
 * Asking for keys over the wire: a server for its own, a notary for those of others.
 *
 * Source: "Security" of the draft, "Retrieving server keys" of the server-server specification.
 */
import { keyPath, keyQueryPath, todaysKeyPath } from "@greenroom/protocol/federation/KeyApi"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { Effect } from "effect"
import { isUnrecognized } from "../FederationCalls.ts"
import type { FederationTransport, OpenRequest } from "../FederationTransport.ts"
import { type RemoteError, RemoteInvalid, RemoteRefused, RemoteUnreachable } from "../RemoteError.ts"
import { parseJson } from "../SlicedJson.ts"
import { readBody } from "./answerBodies.ts"

const maxKeyObjectBytes = 64 * 1024
/** The largest answer of a notary, in bytes. */
export const maxQueryAnswerBytes = 8 * 1024 * 1024
const fetchTimeout = 10_000
const queryTimeout = 20_000

/** The number of remembered servers that support the draft's protocol only. */
const rememberedServers = 10_000

/** Wanted keys by server, all if none is named, and the time until which they should be valid (ms since 1970). */
export type WantedKeys = ReadonlyMap<ServerName, { readonly keyIds: ReadonlySet<string>; readonly validUntil: number }>

export const makeKeyDownload = (transport: FederationTransport["Service"]) => {
  /** Servers that have no keys where today's specification puts them. */
  const ofTheDraft = new Set<ServerName>()

  const read = Effect.fnUntraced(function* (destination: ServerName, status: number, body: Uint8Array) {
    if (status !== 200) {
      return yield* new RemoteRefused({ destination, status, errcode: "M_UNKNOWN", error: `status ${status}` })
    }
    const json = yield* Effect.mapError(parseJson(body), ({ reason }) => new RemoteInvalid({ destination, reason }))
    return isJsonObject(json) ? json : yield* new RemoteInvalid({ destination, reason: "the answer is not an object" })
  })

  const get = (destination: ServerName, uri: string): Effect.Effect<JsonObject, RemoteError> =>
    Effect.flatMap(
      transport.request({
        destination,
        method: "GET",
        uri,
        maxBytes: maxKeyObjectBytes,
        timeout: fetchTimeout,
        mayRepeat: true
      }),
      ({ body, status }) => read(destination, status, body)
    )

  /** A request whose answer may be large. */
  const open = (asked: OpenRequest): Effect.Effect<JsonObject, RemoteError> => {
    const { destination, timeout } = asked
    const opened = Effect.gen(function* () {
      const response = yield* transport.open(asked)
      return yield* read(
        destination,
        response.statusCode ?? 0,
        yield* readBody(destination, response, maxQueryAnswerBytes)
      )
    })
    const late = new RemoteUnreachable({ destination, reason: `no whole answer within ${timeout} ms` })
    return Effect.timeoutOrElse(Effect.scoped(opened), { duration: timeout, orElse: () => Effect.fail(late) })
  }

  /** The key object of a server, unchecked: from where today's specification puts it, else from the draft's path. */
  const own = (server: ServerName): Effect.Effect<JsonObject, RemoteError> => {
    const [first, second] = ofTheDraft.has(server) ? [keyPath, todaysKeyPath] : [todaysKeyPath, keyPath]
    return Effect.catchIf(get(server, first), isUnrecognized, () =>
      Effect.tap(get(server, second), () =>
        Effect.sync(() => {
          if (second === todaysKeyPath) ofTheDraft.delete(server)
          else ofTheDraft.add(server)
          if (ofTheDraft.size > rememberedServers) ofTheDraft.delete(ofTheDraft.values().next().value!)
        })
      )
    )
  }

  /** The notary's key objects of other servers, unchecked. */
  const vouched = (notary: ServerName, wanted: WantedKeys): Effect.Effect<ReadonlyArray<JsonObject>, RemoteError> => {
    const criteria = Array.from(wanted, ([server, { keyIds, validUntil }]) => [
      server,
      Object.fromEntries(Array.from(keyIds, (keyId) => [keyId, { minimum_valid_until_ts: validUntil }]))
    ])
    return Effect.map(
      open({
        destination: notary,
        method: "POST",
        uri: keyQueryPath,
        headers: { "content-type": "application/json" },
        body: Buffer.from(JSON.stringify({ server_keys: Object.fromEntries(criteria) })),
        timeout: queryTimeout
      }),
      ({ server_keys }) => (Array.isArray(server_keys) ? server_keys.filter(isJsonObject) : [])
    )
  }

  return { own, vouched }
}
