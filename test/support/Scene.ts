/** A gateway on a fresh database, and users on it: the setup of the tests across packages. */
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer, type Scope } from "effect"
import { type Answer, type CurlOptions, curl } from "./Curl.ts"
import * as GatewayProcess from "./GatewayProcess.ts"
import * as SeveralNodes from "./SeveralNodes.ts"

/** A user with an access token. */
export interface Person {
  readonly userId: string
  readonly token: string
  /** Sends a request with the user's token. A path that begins with `//` is taken as it is, any other is below the draft's prefix. */
  readonly ask: (method: string, path: string, data?: unknown) => Effect.Effect<Answer>
}

export interface Scene {
  readonly gateway: GatewayProcess.GatewayProcess
  readonly ask: (method: string, path: string, options?: CurlOptions) => Effect.Effect<Answer>
  readonly person: (credentials: { readonly user_id: string; readonly access_token: string }) => Person
  /** Registers a user. */
  readonly register: (user: string) => Effect.Effect<Person>
}

const fullPath = (path: string) => (path.startsWith("//") ? path.slice(1) : clientPrefix + path)

/** Returns the answer, which must have status 200. */
export const succeeded = (answer: Answer): Answer => {
  if (answer.status !== 200) throw new Error(`Answered with ${answer.status}: ${answer.text}`)
  return answer
}

/** The requests to a gateway. A path that begins with `//` is taken as it is, any other is below the draft's prefix. */
export const sceneOf = (gateway: GatewayProcess.GatewayProcess): Scene => {
  const ask: Scene["ask"] = (method, path, options) => curl(gateway.url, method, fullPath(path), options)
  const person: Scene["person"] = ({ access_token: token, user_id: userId }) => ({
    userId,
    token,
    ask: (method, path, data) => ask(method, path, data === undefined ? { token } : { token, data })
  })
  return {
    gateway,
    ask,
    person,
    register: (user) =>
      Effect.map(
        ask("POST", "/register", { data: { type: "m.login.password", user, password: `secret of ${user}` } }),
        (answer) => person(succeeded(answer).body)
      )
  }
}

/** Starts a gateway on a database of its own, and can start it again with its data. Without a port it listens on any free one. */
export const restartable: (
  environment?: GatewayProcess.GatewayOptions["environment"]
) => Effect.Effect<(port?: number) => Effect.Effect<Scene, never, Scope.Scope>, never, Scope.Scope> = Effect.fnUntraced(
  function* (environment = {}) {
    const dataDir = yield* GatewayProcess.temporaryDirectory
    const databaseUrl = yield* Effect.orDie(TestDatabase.emptyUrl)
    return (port = 0) => Effect.map(SeveralNodes.start({ dataDir, databaseUrl, environment, port }), sceneOf)
  }
)

/** One gateway for the tests of a file. */
export class Stage extends Context.Service<Stage, Scene>()("greenroom/test/Stage") {
  static readonly layer = (environment?: GatewayProcess.GatewayOptions["environment"]): Layer.Layer<Stage> =>
    Layer.effect(
      Stage,
      Effect.flatMap(restartable(environment), (start) => start())
    )
}

let rooms = 0

/** Creates a room of the first user that the others have joined. Returns its ID. */
export const roomOf = (owner: Person, ...others: ReadonlyArray<Person>): Effect.Effect<string> =>
  Effect.gen(function* () {
    const { body } = succeeded(
      yield* owner.ask("PUT", `/createRoom/scene${++rooms}`, { invite: others.map(({ userId }) => userId) })
    )
    for (const person of others) {
      succeeded(yield* person.ask("POST", `/rooms/${encodeURIComponent(body.room_id)}/join`, {}))
    }
    return body.room_id
  })

/** Sends a message, by default with its text as transaction ID. */
export const sendMessage = (
  person: Person,
  roomId: string,
  body: string,
  transactionId = body
): Effect.Effect<Answer> =>
  person.ask("PUT", `/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${transactionId}`, {
    msgtype: "m.text",
    body
  })
