/**
 * The key backup, as calls of `KeyBackups`.
 *
 * Source: "Server-side key backups" of the client-server specification.
 */
import type { Session } from "@greenroom/actors/runtime/Session"
import { KeyBackups, type SessionKey } from "@greenroom/actors/user/encryption/KeyBackups"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

const noKey = new NotFound({ error: "There is no such key in the backup" })

export const keyBackupHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.keyBackup", (handlers) =>
  withServices(function* () {
    const backups = yield* KeyBackups

    const find = (version?: string) =>
      CurrentSession.use((session: Session) =>
        Effect.map(backups.find(session, version), ({ algorithm, authData, count, etag, version }) => ({
          version: String(version),
          algorithm,
          auth_data: authData,
          count,
          etag
        }))
      )

    const put = (version: string, rooms: JsonObject) =>
      CurrentSession.use((session: Session) => backups.put(session, version, { rooms }))

    const keys = (version: string, roomId?: string, sessionId?: string) =>
      CurrentSession.use((session: Session) => backups.keys(session, version, { roomId, sessionId }))

    const remove = (version: string, roomId?: string, sessionId?: string) =>
      CurrentSession.use((session: Session) => backups.removeKeys(session, version, { roomId, sessionId }))

    return handlers
      .handle("create", ({ payload }) =>
        CurrentSession.use((session) => Effect.map(backups.create(session, payload), (version) => ({ version })))
      )
      .handle("current", () => find())
      .handle("version", ({ params }) => find(params.version))
      .handle("update", ({ params, payload }) =>
        CurrentSession.use((session) => Effect.as(backups.update(session, params.version, payload), done))
      )
      .handle("remove", ({ params }) =>
        CurrentSession.use((session) => Effect.as(backups.remove(session, params.version), done))
      )
      .handle("putAll", ({ payload, query }) => put(query.version, payload.rooms))
      .handle("putRoom", ({ params, payload, query }) =>
        put(query.version, { [params.roomId]: { sessions: payload.sessions } })
      )
      .handle("putSession", ({ params, payload, query }) =>
        put(query.version, { [params.roomId]: { sessions: { [params.sessionId]: payload } } })
      )
      .handle("all", ({ query }) => keys(query.version))
      .handle("room", ({ params, query }) =>
        Effect.map(keys(query.version, params.roomId), ({ rooms }) => Object.values(rooms)[0] ?? { sessions: {} })
      )
      .handle("session", ({ params: { roomId, sessionId }, query }) =>
        Effect.flatMap(keys(query.version, roomId, sessionId), ({ rooms }): Effect.Effect<SessionKey, MatrixError> => {
          const [found] = Object.values(rooms).flatMap(({ sessions }) => Object.values(sessions))
          return found === undefined ? Effect.fail(noKey) : Effect.succeed(found)
        })
      )
      .handle("removeAll", ({ query }) => remove(query.version))
      .handle("removeRoom", ({ params, query }) => remove(query.version, params.roomId))
      .handle("removeSession", ({ params, query }) => remove(query.version, params.roomId, params.sessionId))
  })
)
