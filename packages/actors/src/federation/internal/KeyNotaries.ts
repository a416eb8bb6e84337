/**
 * Asks notaries for the keys of servers that do not publish them themselves. A key object counts if the notary has signed it.
 *
 * Source: "Querying keys through another server" of the server-server specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { type VerifyKeys, verifyJson } from "@greenroom/room/Signing"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Array as Arr, Clock, Effect, Result } from "effect"
import { FederationTransport } from "../FederationTransport.ts"
import type { FetchPace } from "./FetchPace.ts"
import { makeKeyDownload, type WantedKeys } from "./KeyDownload.ts"
import { reasonOf } from "./KeyFetches.ts"
import { isMet, type KnownKeys, type Needs, type Trusted } from "./KnownKeys.ts"

/** About how many servers a notary is asked at once, and how many key objects of each are read. */
const serversPerQuery = 200
const maxObjectsPerServer = 10

/** All that is asked of a server, for a notary. */
const wantedOf = (needs: Needs, now: number) => ({
  keyIds: new Set(needs.flatMap(({ keyIds }) => [...keyIds])),
  validUntil: Math.min(now, Math.max(...needs.map(({ signedAt = now }) => signedAt)))
})

/** `findKeys` gives those keys of a notary with which it signs now. */
export const makeKeyNotaries = Effect.fnUntraced(function* (
  { keysOf, remember }: KnownKeys,
  pace: FetchPace,
  findKeys: (notary: ServerName, keyIds: ReadonlySet<string>) => Effect.Effect<VerifyKeys>
) {
  const download = makeKeyDownload(yield* FederationTransport)

  /** Stores a notary's key objects of the servers that it was asked about, where it has signed them. */
  const takeVouched = Effect.fnUntraced(function* (notary: ServerName, wanted: WantedKeys, object: JsonObject) {
    const server = object.server_name as ServerName
    const signatures = isJsonObject(object.signatures) ? object.signatures[notary] : undefined
    if (!wanted.has(server) || !isJsonObject(signatures)) return
    const keys = yield* findKeys(notary, new Set(Object.keys(signatures)))
    const { [notary]: _, ...others } = object.signatures as JsonObject
    const isSigned = Result.isSuccess(verifyJson(object, notary, keys))
    const problem = isSigned
      ? yield* remember(server, { ...object, signatures: others }, notary)
      : "it is not signed by it"
    if (problem === undefined) return yield* Effect.logInfo(`${notary} vouches for keys of ${server}`)
    yield* Effect.logWarning(`The key object of ${server} from the notary ${notary} is refused: ${problem}`)
  })

  const askNotary = Effect.fnUntraced(function* (notary: ServerName, wanted: WantedKeys) {
    const objects = yield* download.vouched(notary, wanted)
    for (const object of objects.slice(0, maxObjectsPerServer * wanted.size)) yield* takeVouched(notary, wanted, object)
  })

  /** Asks a notary for the keys that are still missing, about each server as often as the pace allows. */
  const consult = Effect.fnUntraced(function* (
    notary: ServerName,
    unmet: ReadonlyMap<ServerName, Needs>,
    trusted: Trusted
  ) {
    const now = yield* Clock.currentTimeMillis
    const begun = yield* monotonicMillis
    const name = (server: ServerName) => `${notary} ${server}`
    const due = [...unmet].filter(([server]) => server !== notary && pace.mayAsk(name(server), begun))
    yield* Effect.forEach(
      Arr.chunksOf(due, serversPerQuery),
      (chunk) => askNotary(notary, new Map(chunk.map(([server, needs]) => [server, wantedOf(needs, now)]))),
      { discard: true }
    ).pipe(
      Effect.catch((error) => Effect.logInfo(`The notary ${notary} gave no keys of other servers: ${reasonOf(error)}`))
    )
    const then = yield* Clock.currentTimeMillis
    for (const [server, needs] of due) {
      pace.asked(name(server), yield* monotonicMillis, isMet(yield* keysOf(server), needs, trusted, then))
    }
  })

  return { consult }
})
