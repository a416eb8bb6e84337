/**
 * A home server that lies: it listens with TLS, publishes its keys, signs what it says as it should, comes into rooms by
 * the handshake, and then says whatever a test wants, in its own name or in that of others.
 */
import { createServer, request as httpsRequest, type Server } from "node:https"
import { authorizationOf, type RequestHead } from "@greenroom/actors/federation/RequestSigning"
import { makeKeyObject } from "@greenroom/actors/federation/ServerKeyObject"
import { tlsCredentials } from "@greenroom/gateway/federation/TlsCredentials"
import type { Event } from "@greenroom/protocol/Event"
import { federationPrefix } from "@greenroom/protocol/federation/FederationApi"
import { keyPath } from "@greenroom/protocol/federation/KeyApi"
import { type EventId, localpartOf, ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { encodeOrThrow } from "@greenroom/room/CanonicalJson"
import { type EventProposal, type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion as version } from "@greenroom/room/RoomVersions"
import { generateSigningKey, type SigningKey, verifyKeyOf } from "@greenroom/room/Signing"
import { Effect, Result, type Scope } from "effect"
import type { Body } from "../../support/Curl.ts"
import * as GatewayProcess from "../../support/GatewayProcess.ts"
import type { HomeServer } from "./Network.ts"

export interface FederationAnswer {
  readonly status: number
  readonly body: Body
}

/** What is asked of the hostile server; undefined leaves the request without an answer. */
export type Responder = (request: {
  readonly method: string
  readonly path: string
  readonly body: Body
}) => FederationAnswer | "never"

/** A room as the hostile server knows it: from when it joined. */
export interface HostileRoom {
  readonly roomId: string
  readonly state: Map<string, Event>
  /** What its next event follows. */
  extremities: ReadonlyArray<Pick<Event, "event_id" | "depth">>
}

export interface EventPlaceLie {
  readonly prevEvents?: ReadonlyArray<Pick<Event, "event_id" | "depth">>
  /** State that is not that of the room, by type and state key. */
  readonly state?: ReadonlyArray<Event>
}

const lookupIn =
  (room: HostileRoom, lies: ReadonlyArray<Event> = []): StateLookup =>
  (type, stateKey) =>
    lies.find((event) => event.type === type && event.state_key === stateKey) ??
    room.state.get(stateKeyOf(type, stateKey))

const readAll = (pdus: ReadonlyArray<unknown>): ReadonlyArray<Event> =>
  pdus.map((pdu) => Result.getOrThrow(version.fromPdu(pdu)))

export class HostileServer {
  readonly serverName: ServerName
  readonly key: SigningKey
  /** The PDUs that were sent to it, in the order of their arrival. */
  readonly received: Array<Event> = []
  /** The paths that it was asked for, without the prefix. */
  readonly asked: Array<string> = []
  /** How it answers. */
  respond: Responder = () => ({ status: 404, body: { errcode: "M_NOT_FOUND", error: "Nothing here" } })
  private transactions = 0
  private waiting: Array<() => void> = []

  constructor(name: string) {
    this.serverName = ServerName.make(name)
    this.key = generateSigningKey(this.serverName, "ed25519:hostile")
  }

  listen(port: number): Effect.Effect<void, never, Scope.Scope> {
    return Effect.gen({ self: this }, function* () {
      const dataDir = yield* GatewayProcess.temporaryDirectory
      const credentials = yield* Effect.orDie(tlsCredentials({ serverName: this.serverName, dataDir }))
      const server = createServer(credentials)
      this.answerTo(server)
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => {
          server.listen(port, "127.0.0.1", () => resume(Effect.void))
        }),
        () =>
          Effect.callback<void>((resume) => {
            server.close(() => resume(Effect.void))
            server.closeAllConnections()
          })
      )
    })
  }

  private answerTo(server: Server): void {
    server.on("request", (request, response) => {
      const parts: Array<Buffer> = []
      request.on("error", () => {})
      request.on("data", (part: Buffer) => parts.push(part))
      request.on("end", () => {
        const text = Buffer.concat(parts).toString()
        const answer = this.answer(request.method ?? "", request.url ?? "", text === "" ? undefined : JSON.parse(text))
        if (answer !== "never") response.writeHead(answer.status).end(JSON.stringify(answer.body))
      })
    })
  }

  private answer(method: string, url: string, body: Body): FederationAnswer | "never" {
    if (url.startsWith(keyPath)) return { status: 200, body: this.keyObject() }
    // It speaks the draft's dialect alone.
    if (!url.startsWith(federationPrefix)) {
      return { status: 404, body: { errcode: "M_UNRECOGNIZED", error: "There is no such endpoint" } }
    }
    const path = decodeURIComponent(url.slice(federationPrefix.length))
    if (!path.startsWith("/send/")) {
      this.asked.push(path)
      return this.respond({ method, path, body })
    }
    for (const pdu of body.pdus ?? []) {
      const event = version.fromPdu(pdu)
      if (Result.isSuccess(event)) this.received.push(event.success)
    }
    for (const wake of this.waiting.splice(0)) wake()
    return { status: 200, body: { pdus: {} } }
  }

  private keyObject(): Body {
    const published = { keyId: this.key.keyId, publicKey: verifyKeyOf(this.key), expiredAt: undefined }
    return makeKeyObject(this.serverName, this.key, [published], Date.now())
  }

  /** Waits for a PDU that is sent to it. */
  receives(isMeant: (event: Event) => boolean): Effect.Effect<Event> {
    return Effect.suspend(() => {
      const found = this.received.find(isMeant)
      if (found !== undefined) return Effect.succeed(found)
      return Effect.andThen(
        Effect.callback<void>((resume) => {
          this.waiting.push(() => resume(Effect.void))
        }),
        this.receives(isMeant)
      )
    })
  }

  /** A request with the signature of this server, or with an Authorization header of the test's own. */
  ask(
    server: HomeServer,
    method: "GET" | "PUT",
    path: string,
    content?: Body,
    lies: { readonly head?: Partial<RequestHead>; readonly authorization?: string; readonly raw?: string } = {}
  ): Effect.Effect<FederationAnswer> {
    return Effect.gen({ self: this }, function* () {
      const uri = federationPrefix + path
      const text = lies.raw ?? (content === undefined ? undefined : encodeOrThrow(content))
      const bytes = text === undefined ? undefined : Buffer.from(text)
      const head = { method, uri, origin: this.serverName, destination: server.serverName, ...lies.head }
      const authorization = lies.authorization ?? (yield* authorizationOf(head, bytes, this.key))
      return yield* Effect.callback<FederationAnswer>((resume) => {
        const request = httpsRequest(
          {
            host: "127.0.0.1",
            port: server.federationPort,
            method,
            path: uri,
            rejectUnauthorized: false,
            headers: { ...(authorization === "" ? {} : { authorization }), "content-length": bytes?.length ?? 0 }
          },
          (response) => {
            const parts: Array<Buffer> = []
            response.on("data", (part: Buffer) => parts.push(part))
            response.on("end", () => {
              const body = JSON.parse(Buffer.concat(parts).toString() || "{}")
              resume(Effect.succeed({ status: response.statusCode ?? 0, body }))
            })
          }
        )
        request.on("error", (error) => resume(Effect.die(error)))
        request.end(bytes)
      })
    })
  }

  /** Sends PDUs, as they are, in a transaction. Gives the answers by the IDs of the events. */
  send(
    server: HomeServer,
    pdus: ReadonlyArray<Body>,
    options: { readonly transactionId?: string; readonly edus?: ReadonlyArray<Body> } = {}
  ): Effect.Effect<FederationAnswer> {
    const { edus = [], transactionId = `lie${++this.transactions}` } = options
    return this.ask(server, "PUT", `/send/${transactionId}`, {
      origin: this.serverName,
      destination: server.serverName,
      ts: Date.now(),
      pdus,
      edus
    })
  }

  /** Sends events, and gives what the server says of each: undefined where it was taken. */
  tell(server: HomeServer, ...events: ReadonlyArray<Event>): Effect.Effect<ReadonlyArray<string | undefined>> {
    return Effect.map(this.send(server, events.map(version.toPdu)), ({ body }) =>
      events.map((event) => {
        const answer = body.pdus[`${localpartOf(event.event_id)},${event.origin}`]
        return answer === undefined ? "not answered" : answer.error
      })
    )
  }

  /** Joins a room of the server by the handshake. */
  join(server: HomeServer, roomId: string, user: string): Effect.Effect<HostileRoom> {
    return Effect.gen({ self: this }, function* () {
      const made = yield* this.ask(
        server,
        "GET",
        `/make_join/${encodeURIComponent(roomId)}/${encodeURIComponent(user)}`
      )
      if (made.status !== 200) return yield* Effect.die(new Error(JSON.stringify(made)))
      const join = Result.getOrThrow(version.complete(made.body.event, this.key, Date.now()))
      const path = `/send_join/${encodeURIComponent(roomId)}/${encodeURIComponent(localpartOf(join.event_id))}`
      const sent = yield* this.ask(server, "PUT", path, version.toPdu(join))
      if (sent.status !== 200) return yield* Effect.die(new Error(JSON.stringify(sent)))
      const state = new Map([...readAll(sent.body.state), join].map((e) => [stateKeyOf(e.type, e.state_key ?? ""), e]))
      return { roomId, state, extremities: [join] }
    })
  }

  /** An event of a room, by default a message, signed by this server. */
  event(
    room: HostileRoom,
    proposal: Partial<Omit<EventProposal, "sender">> & { readonly sender: string },
    lie: EventPlaceLie = {}
  ): Event {
    const whole = {
      type: "m.room.message",
      content: { msgtype: "m.text", body: "a lie" },
      ...proposal,
      room_id: room.roomId,
      sender: proposal.sender as UserId
    } as EventProposal
    const place = {
      prevEvents: lie.prevEvents ?? room.extremities,
      state: lookupIn(room, lie.state),
      now: Date.now()
    }
    return version.build(whole, place, this.key)
  }

  /** The event with other contents, signed anew by this server in the name of its origin. */
  forge(event: Event, changes: Body): Event {
    const altered = { ...event, ...changes } as Event
    const signed = version.sign(altered, this.key)
    return { ...altered, signatures: { [event.origin]: signed.signatures[this.serverName]! } }
  }
}

/** A made-up event that something can follow. */
export const imagined = (serverName: string, depth = 1000): Pick<Event, "event_id" | "depth"> => ({
  event_id: `$nothing${Math.random().toString(36).slice(2)}:${serverName}` as EventId,
  depth
})
