/**
 * Authenticates client requests: resolves the access token to the session of the handler, counts the request against the
 * rate of the user, and reports the user's activity to presence.
 *
 * A request that had to wait for its body, or for its turn among those of its user, is authenticated and checked again after that.
 *
 * Source: "Registration and login" of the draft, "Using access tokens" of the client-server specification.
 */
import type { ServerResponse } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Accounts } from "@greenroom/actors/account/Accounts"
import { Administration } from "@greenroom/actors/account/Administration"
import { Presences } from "@greenroom/actors/presence/Presences"
import { addressKey } from "@greenroom/actors/runtime/AddressKey"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { ownAllowance } from "@greenroom/actors/runtime/RequestAllowance"
import type { Session } from "@greenroom/actors/runtime/Session"
import { SessionRevocations } from "@greenroom/actors/runtime/SessionRevocations"
import {
  Authentication,
  CurrentSession,
  CurrentViewer,
  isReadOnly,
  LongPoll,
  OptionalAuthentication,
  Transfer
} from "@greenroom/protocol/api/Authentication"
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer, Option, Semaphore } from "effect"
import { HttpMethod, HttpRouter, HttpServerRequest } from "effect/http"
import { MatrixRequest } from "../MatrixRequest.ts"
import { RateLimit } from "../RateLimit.ts"
import { noteUser, recordsUsers } from "../RequestRecords.ts"
import { RequestSlots, type Slot, type SlotKind, withSlot } from "../RequestSlots.ts"
import { addressOf } from "../TrustedProxies.ts"
import { makeTakeOfUser } from "../UserRates.ts"
import { makeAuthenticate, readToken } from "./AccessToken.ts"
import { type Endpoint, makeAccountRules } from "./AccountRules.ts"
import { type EndpointServices, withServices } from "./EndpointServices.ts"

/** Groups whose requests do not count as activity of the user: logout, and setting the presence itself. */
const withoutActivity: ReadonlySet<string> = new Set(["presence", "login", "registration"])

/** Endpoints for administrators only. In the group of exports there is one by which users export their own data. */
const isForAdmins = (group: string, { identifier }: Endpoint): boolean =>
  group === "admin" ||
  group === "destinations" ||
  group.startsWith("synapseAdmin.") ||
  (group.startsWith("greenroomAdmin.") && identifier !== "own")

type Use<A> = (
  token: string | undefined,
  address: string,
  parameter: (name: string) => string | ReadonlyArray<string> | undefined
) => Effect.Effect<A, MatrixError>

/** The requests to which application services may give a time: they send an event, or set state. */
const takesTime = /\/rooms\/[^/]+\/(?:send|state)\//

/** Runs `use` with the access token of the request, its address, and its query parameters. */
const withToken = <A>(use: Use<A>) =>
  Effect.withFiber<A, MatrixError>((fiber) => {
    const request = Context.getUnsafe(fiber.context, HttpServerRequest.HttpServerRequest)
    const parameters = Context.getUnsafe(fiber.context, HttpServerRequest.ParsedSearchParams)
    const token = readToken(parameters.access_token, request.headers.authorization)
    return use(token, addressOf(request), (name) =>
      name === "ts" && !takesTime.test(request.url) ? undefined : parameters[name]
    )
  })

/** Adds the user of a session to the record of the request, where records contain users. */
const recordingUser = Effect.map(
  recordsUsers,
  (isRecorded) =>
    <E>(session: Effect.Effect<Session, E>): Effect.Effect<Session, E> =>
      isRecorded ? Effect.tap(session, ({ userId }) => noteUser(userId)) : session
)

/** Answers the request in its slot. `owner` is a user ID or an address. */
const inSlot = <A, E, R>(
  slot: Slot,
  owner: string,
  handler: Effect.Effect<A, E, R>
): Effect.Effect<A, E | MatrixError, R> =>
  Effect.withFiber((fiber) => {
    ownAllowance(fiber.context, owner)
    const request = Context.getUnsafe(fiber.context, HttpServerRequest.HttpServerRequest)
    return withSlot(slot, NodeHttpServerRequest.toServerResponse(request) as ServerResponse, handler)
  })

/**
 * Answers requests that change something, in their slots. `check` runs again where a request has waited for its slot or its body.
 * What a request does in rooms after its account was deactivated is undone.
 */
const makeAnswerChange = Effect.gen(function* () {
  const accounts = yield* Accounts
  const revocations = yield* SessionRevocations

  return <A, E, R>(
    slot: Slot,
    session: Session,
    handler: Effect.Effect<A, E, R>,
    check: Effect.Effect<void, MatrixError>
  ): Effect.Effect<A, E | MatrixError, R> =>
    Effect.withFiber((fiber) => {
      ownAllowance(fiber.context, session.userId)
      const request = Context.getUnsafe(fiber.context, HttpServerRequest.HttpServerRequest)
      if (request instanceof MatrixRequest) request.afterWait = Effect.orDie(check)
      const work = slot.admission === Effect.void ? handler : Effect.andThen(check, handler)
      return withSlot(slot, NodeHttpServerRequest.toServerResponse(request) as ServerResponse, work, () =>
        revocations.hasEnded(session) ? accounts.finishDeactivation(session.userId) : Effect.void
      )
    })
})

const slotKindOf = (annotations: Context.Context<never>, changes: boolean): SlotKind => {
  if (Context.get(annotations, Transfer)) return "transfers"
  return Context.get(annotations, LongPoll) ? "polls" : changes ? "sends" : "reads"
}

const required: Layer.Layer<Authentication, never, EndpointServices> = Layer.effect(
  Authentication,
  withServices(function* () {
    const presences = yield* Presences
    const take = yield* makeTakeOfUser
    const slots = yield* RequestSlots
    const rules = yield* makeAccountRules
    const administration = yield* Administration
    const recorded = yield* recordingUser
    const session = recorded(withToken(yield* makeAuthenticate))
    const answerChange = yield* makeAnswerChange

    /** Checks that the account may make the request. */
    const permitted = (session: Session, group: string, endpoint: Endpoint): Effect.Effect<void, MatrixError> => {
      const checked = rules.request(session, group, endpoint) ?? Effect.void
      return isForAdmins(group, endpoint) ? Effect.andThen(checked, administration.requireAdmin(session)) : checked
    }

    /** Counts the request and checks that the account may make it, before any of its body is read. */
    const allowed = (rate: "sends" | "requests", session: Session, group: string, endpoint: Endpoint) => {
      const counted = take(rate, session)
      const checked = permitted(session, group, endpoint)
      return checked === Effect.void ? counted : Effect.andThen(counted, checked)
    }

    return (handler, { endpoint, group }) => {
      const changes = !isReadOnly(endpoint)
      const rate = changes ? "sends" : "requests"
      const kind = slotKindOf(endpoint.annotations, changes)
      const isActivity = changes && !withoutActivity.has(group.identifier)
      const stillPermitted = Effect.flatMap(session, (session) => permitted(session, group.identifier, endpoint))
      return Effect.flatMap(session, (session) =>
        Effect.flatMapEager(allowed(rate, session, group.identifier, endpoint), () => {
          const slot = slots.enter(kind, session.userId)
          const work = Effect.provideService(handler, CurrentSession, session)
          // Also of a request that only reads: it may have waited for its body.
          const handled = HttpMethod.hasBody(endpoint.method)
            ? answerChange(slot, session, work, stillPermitted)
            : inSlot(slot, session.userId, work)
          return isActivity ? Effect.flatMap(presences.active(session), () => handled) : handled
        })
      )
    }
  })
)

/** How many requests without an access token may cause a request to another server at the same time. */
const maxForeignQuestions = 32

/** Runs requests without an access token. Those about users and aliases of other servers run only a few at a time. */
const makeAnonymously = (serverName: ServerName) => {
  const questions = Semaphore.makeUnsafe(maxForeignQuestions)
  const isForeign = ({ alias, userId }: { readonly [name: string]: string | undefined }): boolean => {
    const id = alias ?? userId
    return id?.includes(":") === true && serverNameOf(id as UserId) !== serverName
  }
  const tooMany = new LimitExceeded({
    error: "Too many requests about other servers, try again later",
    retry_after_ms: 1_000
  })
  return <A, E, R>(handled: Effect.Effect<A, E, R>): Effect.Effect<A, E | LimitExceeded, R> =>
    Effect.withFiber((fiber) =>
      isForeign(Context.getUnsafe(fiber.context, HttpRouter.RouteContext).params)
        ? Effect.flatMap(questions.withPermitsIfAvailable(1)(handled), (answer) =>
            Option.isSome(answer) ? Effect.succeed(answer.value) : Effect.fail(tooMany)
          )
        : handled
    )
}

interface Viewer {
  readonly address: string
  readonly session?: Session
}

/** Without an access token the request counts against the rate of the address. */
const optional: Layer.Layer<OptionalAuthentication, never, EndpointServices> = Layer.effect(
  OptionalAuthentication,
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const limit = yield* RateLimit
    const slots = yield* RequestSlots
    const take = yield* makeTakeOfUser
    const rules = yield* makeAccountRules
    const recorded = yield* recordingUser
    const found = yield* makeAuthenticate
    const authenticate: typeof found = (...request) => recorded(found(...request))
    const anonymously = makeAnonymously(serverName)
    const viewer = withToken<Viewer>((token, address, parameter) =>
      token === undefined
        ? Effect.as(limit.takeFrom("anonymous", address), { address })
        : Effect.map(
            Effect.tap(authenticate(token, address, parameter), (session) => take("requests", session)),
            (session) => ({ address, session })
          )
    )
    return (handler, { endpoint, group }) =>
      Effect.flatMap(viewer, ({ address, session }) => {
        const answered = Effect.provideService(handler, CurrentViewer, session)
        const owner = session?.userId ?? addressKey(address)
        const handled = inSlot(
          slots.enter(slotKindOf(endpoint.annotations, false), owner),
          owner,
          session === undefined ? anonymously(answered) : answered
        )
        const checked = session && rules.request(session, group.identifier, endpoint, true)
        return checked === undefined ? handled : Effect.andThen(checked, handled)
      })
  })
)

export const authenticationLayer = Layer.merge(required, optional)
