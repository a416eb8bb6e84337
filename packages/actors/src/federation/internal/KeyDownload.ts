/**
 * Asking for keys over the wire: a server for its own, a notary for those of others.
 *
 * Source: "Security" of the draft; "Retrieving server keys" of today's specification.
 */
import { keyPath, keyQueryPath, todaysKeyPath } from "@greenroom/protocol/federation/KeyApi"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { Effect } from "effect"
import { isUnrecognized } from "../FederationCalls.ts"
import type { FederationTransport, TransportRequest } from "../FederationTransport.ts"
import { type RemoteError, RemoteInvalid, RemoteRefused } from "../RemoteError.ts"
import { parseJson } from "../SlicedJson.ts"

const maxKeyObjectBytes = 64 * 1024
const maxQueryAnswerBytes = 8 * 1024 * 1024
const fetchTimeout = 10_000
const queryTimeout = 20_000

/** The number of remembered servers that support the draft's protocol only. */
const rememberedServers = 10_000

/** Wanted keys by server, and the time until which they should be valid (ms since 1970). */
export type WantedKeys = ReadonlyMap<ServerName, { readonly keyIds: ReadonlySet<string>; readonly validUntil: number }>

export const makeKeyDownload = (transport: FederationTransport["Service"]) => {
  /** Servers that have no keys where today's specification puts them. */
  const ofTheDraft = new Set<ServerName>()

  const request = Effect.fnUntraced(function* (asked: TransportRequest) {
    const { destination } = asked
    const { body, status } = yield* transport.request(asked)
    if (status !== 200) {
      return yield* new RemoteRefused({ destination, status, errcode: "M_UNKNOWN", error: `status ${status}` })
    }
    const json = yield* Effect.mapError(parseJson(body), ({ reason }) => new RemoteInvalid({ destination, reason }))
    return isJsonObject(json) ? json : yield* new RemoteInvalid({ destination, reason: "the answer is not an object" })
  })

  const get = (destination: ServerName, uri: string): Effect.Effect<JsonObject, RemoteError> =>
    request({ destination, method: "GET", uri, maxBytes: maxKeyObjectBytes, timeout: fetchTimeout, mayRepeat: true })

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
      request({
        destination: notary,
        method: "POST",
        uri: keyQueryPath,
        headers: { "content-type": "application/json" },
        body: Buffer.from(JSON.stringify({ server_keys: Object.fromEntries(criteria) })),
        maxBytes: maxQueryAnswerBytes,
        timeout: queryTimeout
      }),
      ({ server_keys }) => (Array.isArray(server_keys) ? server_keys.filter(isJsonObject) : [])
    )
  }

  return { own, vouched }
}
