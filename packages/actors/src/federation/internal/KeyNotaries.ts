/**
 * Asks notaries for the keys of servers that do not publish them themselves. A key object counts if the notary has signed it.
 *
 * Source: "Querying keys through another server" of the server-server specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { plural } from "@greenroom/protocol/Plural"
import { type VerifyKeys, verifyJson } from "@greenroom/room/Signing"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Array as Arr, Clock, Effect, Result } from "effect"
import { withAnswerBudget } from "../../runtime/AnswerBudget.ts"
import { FederationTransport } from "../FederationTransport.ts"
import type { FetchPace } from "./FetchPace.ts"
import { makeKeyDownload, maxQueryAnswerBytes, type WantedKeys } from "./KeyDownload.ts"
import { reasonOf } from "./KeyFetches.ts"
import { isMet, type KnownKeys, type Needs, type Trusted } from "./KnownKeys.ts"

/** About how many servers a notary is asked at once, and how many key objects of each are read. */
const serversPerQuery = 200
const maxObjectsPerServer = 10

/**
 * How many keys of a server are named in a query; of a server with more of them all are asked for. A PDU may bear thousands of made-up
 * signatures, and a notary may refuse a long query together with what it asks about other servers.
 */
const maxNamedKeys = 20

/** All that is asked of a server, for a notary. */
const wantedOf = (needs: Needs, now: number) => {
  const keyIds = new Set(needs.flatMap(({ keyIds }) => [...keyIds]))
  const newest = needs.reduce((latest, { signedAt = now }) => Math.max(latest, signedAt), 0)
  return { keyIds: keyIds.size <= maxNamedKeys ? keyIds : new Set<string>(), validUntil: Math.min(now, newest) }
}

/** `findKeys` gives those keys of a notary with which it signs now. */
export const makeKeyNotaries = Effect.fnUntraced(function* (
  { keysOf, remember }: KnownKeys,
  pace: FetchPace,
  findKeys: (notary: ServerName, keyIds: ReadonlySet<string>) => Effect.Effect<VerifyKeys>
) {
  const download = makeKeyDownload(yield* FederationTransport)

  /** Stores a notary's key object of a server that it was asked about, where it has signed that. Gives the fault of the object. */
  const takeVouched = Effect.fnUntraced(function* (notary: ServerName, wanted: WantedKeys, object: JsonObject) {
    const server = object.server_name as ServerName
    const signatures = isJsonObject(object.signatures) ? object.signatures[notary] : undefined
    if (!wanted.has(server)) return "it is of a server that was not asked about"
    if (!isJsonObject(signatures)) return "it is not signed by the notary"
    const keys = yield* findKeys(notary, new Set(Object.keys(signatures)))
    const { [notary]: _, ...others } = object.signatures as JsonObject
    return Result.isSuccess(verifyJson(object, notary, keys))
      ? yield* remember(server, { ...object, signatures: others }, notary)
      : "it is not signed by the notary"
  })

  /** Takes the objects of an answer. One line of the log is for all of them: there may be thousands. */
  const takeAll = Effect.fnUntraced(function* (
    notary: ServerName,
    wanted: WantedKeys,
    objects: ReadonlyArray<JsonObject>
  ) {
    const servers = new Set<unknown>()
    const problems: Array<string> = []
    for (const object of objects.slice(0, maxObjectsPerServer * wanted.size)) {
      const problem = yield* takeVouched(notary, wanted, object)
      if (problem === undefined) servers.add(object.server_name)
      else problems.push(problem)
    }
    if (servers.size > 0) {
      const [first] = servers
      yield* Effect.logInfo(
        `${notary} vouches for keys of ${plural(servers.size, "server")}, the first of which is ${first}`
      )
    }
    if (problems.length > 0) {
      const count = plural(problems.length, "key object")
      yield* Effect.logWarning(`Refused ${count} from the notary ${notary}, the first because ${problems[0]}`)
    }
  })

  const askNotary = (notary: ServerName, wanted: WantedKeys) =>
    withAnswerBudget(
      maxQueryAnswerBytes,
      notary,
      Effect.flatMap(download.vouched(notary, wanted), (objects) => takeAll(notary, wanted, objects))
    )

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
