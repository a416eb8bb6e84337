/**
 * Queries to application services: whether a user or an alias in a namespace of theirs exists, and what their third-party
 * networks contain. A service may create the user or the room before it answers.
 *
 * Source: "Querying" and "Third-party networks" of the application service API.
 */
import type { RoomAlias, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject, nestsWithin, parseJsonText } from "@greenroom/protocol/Json"
import { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer, Option } from "effect"
import { makeInFlight } from "../runtime/InFlight.ts"
import { makeUnderWay } from "../runtime/UnderWay.ts"
import { type AppServiceAnswer, AppServiceClient, endpoints } from "./AppServiceClient.ts"
import { type AppService, AppServices } from "./AppServices.ts"
import { formatInstanceId } from "./NetworkInstance.ts"

/** How many services are asked at once. */
const concurrency = 8

/**
 * How long clients wait for the answers of services. A service that is asked for a user or an alias may take longer, as one that
 * makes a room: who asks for the name afterwards finds it.
 */
const answerTimeout = "10 seconds"

/** The most users and aliases for which a service is asked at a time. */
const maxAsked = 256

/** How many questions of one other server about names are under way at once. */
const maxOfServer = 8
const tooMany = new LimitExceeded({
  error: "Too many requests for names of application services, try again later",
  retry_after_ms: 5_000
})

/** How deep the answer of a service may nest: it is passed on to clients. */
const maxDepth = 64

type Endpoint = Parameters<AppServiceClient["Service"]["request"]>[1]

/** The answer of a service, if it is one that can be passed on. */
const answerOf = ({ status, text }: AppServiceAnswer): Json | undefined => {
  const answer = status === 200 ? parseJsonText(text) : undefined
  return nestsWithin(answer, maxDepth) ? answer : undefined
}

const encode = encodeURIComponent

/** The networks of an answer, each with the ID by which clients name its list of rooms. */
const instancesOf = ({ id }: AppService, { instances }: JsonObject): ReadonlyArray<Json> =>
  (Array.isArray(instances) ? instances : []).map((instance) =>
    isJsonObject(instance) && typeof instance.network_id === "string"
      ? { ...instance, instance_id: formatInstanceId(id, instance.network_id) }
      : instance
  )

const make = Effect.gen(function* () {
  const { all } = yield* AppServices
  const client = yield* AppServiceClient
  const listening = all.filter(({ url }) => url !== undefined)
  const underWay = makeUnderWay()
  const scope = yield* Effect.scope
  /** The users and aliases for which services are being asked: each is asked for once, for all who wait. */
  const asking = new Map(listening.map((service) => [service, makeInFlight<boolean, never>(scope)]))

  /** True if the service has created the queried user or alias. */
  const makes = (service: AppService, endpoint: Endpoint): Effect.Effect<boolean> => {
    const { once, size } = asking.get(service)!
    const answered = client.request(service, endpoint).pipe(
      Effect.map(({ status }) => status === 200),
      Effect.orElseSucceed(() => false)
    )
    return once(
      endpoint.path,
      Effect.suspend(() => (size() > maxAsked ? Effect.succeed(false) : answered))
    )
  }

  /** True if one of the services has created it. */
  const anyMakes = Effect.fnUntraced(
    function* (asked: ReadonlyArray<AppService>, endpoint: Endpoint) {
      for (const service of asked) if (yield* makes(service, endpoint)) return true
      return false
    },
    Effect.timeoutOrElse({ duration: answerTimeout, orElse: () => Effect.succeed(false) })
  )

  /** The questions about names, asked by `ask`. */
  const namesBy = <E>(
    ask: (asked: ReadonlyArray<AppService>, endpoint: Endpoint) => Effect.Effect<boolean, E>
  ): NameQueries<E> => ({
    makesUser: (userId) =>
      ask(
        listening.filter((service) => service.hasUser(userId)),
        endpoints.user(userId)
      ),
    makesAlias: (alias) =>
      ask(
        listening.filter((service) => service.hasAlias(alias)),
        endpoints.alias(alias)
      )
  })

  const forServer = (origin: ServerName) =>
    namesBy((asked, endpoint) =>
      asked.length === 0
        ? Effect.succeed(false)
        : underWay(origin, (others) => (others < maxOfServer ? anyMakes(asked, endpoint) : Effect.fail(tooMany)))
    )

  const askAll = (
    asked: ReadonlyArray<AppService>,
    name: string,
    query: { readonly [key: string]: string }
  ): Effect.Effect<ReadonlyArray<Json>> =>
    Effect.forEach(
      asked,
      (service) =>
        client.request(service, endpoints.thirdParty(name), { query }).pipe(
          Effect.timeout(answerTimeout),
          Effect.map(answerOf),
          Effect.orElseSucceed(() => undefined)
        ),
      { concurrency }
    ).pipe(Effect.map((answers) => answers.filter((answer) => answer !== undefined)))

  const found = (asked: ReadonlyArray<AppService>, name: string, query: { readonly [key: string]: string }) =>
    Effect.map(askAll(asked, name, query), (answers) =>
      answers.flatMap((answer) => (Array.isArray(answer) ? answer.filter(isJsonObject) : []))
    )

  const withProtocol = (protocol: string) => listening.filter(({ protocols }) => protocols.includes(protocol))

  /** If several services reach one network, it has the instances of all. */
  const protocolOf = Effect.fn("AppServiceQueries.protocol")(function* (protocol: string) {
    const name = `protocol/${encode(protocol)}`
    const answers = yield* Effect.forEach(withProtocol(protocol), (service) =>
      Effect.map(askAll([service], name, {}), (found) =>
        found.filter(isJsonObject).map((answer) => ({ ...answer, instances: instancesOf(service, answer) }))
      )
    )
    const [first] = answers.flat()
    if (first === undefined) return Option.none<JsonObject>()
    const instances = answers.flat().flatMap(({ instances }) => instances)
    return Option.some<JsonObject>({ ...first, instances })
  })

  return AppServiceQueries.of({
    ...namesBy(anyMakes),
    forServer,
    protocols: Effect.gen(function* () {
      const names = [...new Set(listening.flatMap(({ protocols }) => protocols))]
      const answers = yield* Effect.forEach(names, (name) => protocolOf(name), { concurrency })
      return Object.fromEntries(
        names.flatMap((name, index) => (Option.isSome(answers[index]!) ? [[name, answers[index].value]] : []))
      )
    }),
    protocol: protocolOf,
    find: (kind, protocol, query) => found(withProtocol(protocol), `${kind}/${encode(protocol)}`, query),
    findByName: (kind, query) => found(listening, kind, query),
    reaches: (protocol) => withProtocol(protocol).length > 0
  })
})

/** Whether services create what a name in their namespaces stands for. */
interface NameQueries<E> {
  /** Asks the services in whose namespace a user is that has no account. True if there is one now. Takes 10 seconds at most. */
  readonly makesUser: (userId: UserId) => Effect.Effect<boolean, E>
  /** Asks the services in whose namespace an alias is that names no room. True if it names one now. Takes 10 seconds at most. */
  readonly makesAlias: (alias: RoomAlias) => Effect.Effect<boolean, E>
}

/** Asks application services about users, aliases and third-party networks. */
export class AppServiceQueries extends Context.Service<
  AppServiceQueries,
  NameQueries<never> & {
    /** The same for another server. Errors: M_LIMIT_EXCEEDED while the server has several questions under way. */
    readonly forServer: (origin: ServerName) => NameQueries<LimitExceeded>
    /** The networks that services reach, by their names. */
    readonly protocols: Effect.Effect<JsonObject>
    /** One network, by its name; none if no service reaches it. */
    readonly protocol: (protocol: string) => Effect.Effect<Option.Option<JsonObject>>
    /** Users or locations of a network that match the fields of the query. */
    readonly find: (
      kind: "user" | "location",
      protocol: string,
      query: { readonly [key: string]: string }
    ) => Effect.Effect<ReadonlyArray<JsonObject>>
    /** The locations or users of other networks that a user ID or an alias stands for. */
    readonly findByName: (
      kind: "user" | "location",
      query: { readonly [key: string]: string }
    ) => Effect.Effect<ReadonlyArray<JsonObject>>
    /** Whether a service reaches the network. */
    readonly reaches: (protocol: string) => boolean
  }
>()("greenroom/actors/AppServiceQueries") {
  static readonly layer = Layer.effect(AppServiceQueries, make)
}
