/**
 * The restrictions of locked, suspended and guest accounts, by the names of endpoints of both generations of the client API
 * and of methods of the WebSocket.
 *
 * Source: "Account locking", "Account suspension" and "Guest Access" of the client-server specification.
 */
import { AccountStandings, lockedError } from "@greenroom/actors/account/AccountStandings"
import { RoomReader } from "@greenroom/actors/room/RoomReader"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { GuestAccessForbidden, type MatrixError, UserSuspended } from "@greenroom/protocol/MatrixError"
import type { SocketCall } from "@greenroom/protocol/SocketMethod"
import { Context, Effect } from "effect"
import { HttpRouter } from "effect/http"

/** The endpoints of a locked account: logout. */
const whileLocked: ReadonlySet<string> = new Set([
  "login.logout",
  "login.logoutAll",
  "clientServer.session.logout",
  "clientServer.session.logoutAll"
])

/**
 * The groups whose endpoints a suspended account may call: they only read, or change the account, devices and keys of the caller.
 * Of other groups it may call the endpoints that read (GET), and those of `whileSuspended`. All other endpoints are refused.
 */
export const groupsWhileSuspended: ReadonlySet<string> = new Set([
  "account",
  "contacts",
  "login",
  "registration",
  "clientServer.accountData",
  "clientServer.addressValidation",
  "clientServer.contacts",
  "clientServer.dehydratedDevice",
  "clientServer.devices",
  "clientServer.encryption",
  "clientServer.finder",
  "clientServer.keyBackup",
  "clientServer.login",
  "clientServer.password",
  "clientServer.pushRules",
  "clientServer.pushers",
  "clientServer.receipts",
  "clientServer.registration",
  "clientServer.search",
  "clientServer.services",
  "clientServer.session",
  "clientServer.slidingSync",
  "clientServer.thirdPartyIds"
])

/** Endpoints of other groups that change something and that a suspended account may call. */
export const whileSuspended: ReadonlySet<string> = new Set([
  "membership.leave",
  "membership.leaveWithTransaction",
  "clientServer.rooms.leave",
  "clientServer.roomList.search",
  "clientServer.delayedEvents.act",
  "clientServer.delayedEvents.actByBody"
])

/** The endpoints of guests, beside those by which anyone reads without an access token. */
export const forGuests: ReadonlySet<string> = new Set([
  "clientServer.rooms.state",
  "clientServer.rooms.stateEvent",
  "clientServer.rooms.stateEventWithKey",
  "clientServer.rooms.members",
  "clientServer.rooms.event",
  "clientServer.rooms.messages",
  "clientServer.rooms.context",
  "clientServer.rooms.joinedRooms",
  "clientServer.rooms.joinByIdOrAlias",
  "clientServer.rooms.join",
  "clientServer.rooms.leave",
  "clientServer.rooms.send",
  "clientServer.rooms.setState",
  "clientServer.rooms.setStateWithKey",
  "clientServer.relations.all",
  "clientServer.relations.ofRelType",
  "clientServer.relations.ofEventType",
  "clientServer.relations.threads",
  "clientServer.deprecatedSync.roomInitialSync",
  "clientServer.deprecatedSync.events",
  "clientServer.sync.sync",
  "clientServer.slidingSync.slidingSync",
  "clientServer.accountData.addFilter",
  "clientServer.accountData.filter",
  "clientServer.pushRules.all",
  "clientServer.media.download",
  "clientServer.media.downloadAs",
  "clientServer.media.thumbnail",
  "clientServer.media.config",
  "clientServer.upload.config",
  "clientServer.profile.setField",
  "clientServer.profile.removeField",
  "clientServer.roomList.search",
  "clientServer.roomList.hierarchy",
  "clientServer.devices.list",
  "clientServer.devices.get",
  "clientServer.devices.rename",
  "clientServer.session.whoami",
  "clientServer.session.logout",
  "clientServer.session.logoutAll",
  "clientServer.versions.capabilities",
  "clientServer.services.rtcTransports",
  "clientServer.delayedEvents.schedule",
  "clientServer.delayedEvents.list",
  "clientServer.delayedEvents.get",
  "clientServer.delayedEvents.act",
  "clientServer.delayedEvents.actByBody",
  "clientServer.encryption.upload",
  "clientServer.encryption.query",
  "clientServer.encryption.claim",
  "clientServer.encryption.changes",
  "clientServer.encryption.sendToDevice"
])

/** Guests may change only the display name of their profile. */
const profileChanges: ReadonlySet<string> = new Set([
  "clientServer.profile.setField",
  "clientServer.profile.removeField"
])

/** A suspended account may redact only its own events. */
export const redactions: ReadonlySet<string> = new Set([
  "rooms.redact",
  "rooms.redactWithTransaction",
  "clientServer.rooms.redact",
  "clientServer.rooms.redactWithoutTransaction"
])

const guestError = new GuestAccessForbidden({ error: "Guests may not call this endpoint: register an account" })

const suspendedError = new UserSuspended({ error: "A suspended account may not call this endpoint" })

/** Calls by WebSocket that only read. Other calls count against the rate of sends. */
export const isReading = ({ method, params }: SocketCall): boolean => {
  switch (method) {
    case "messages":
    case "initialSync":
    case "members":
    case "ping":
      return true
    case "state":
      return params.content === undefined
    case "presence":
      return params.state === undefined && params.presence === undefined
    case "profile":
      return params.value === undefined
    default:
      return false
  }
}

const mayCallWhileSuspended = (call: SocketCall): boolean => call.method === "leave" || isReading(call)

/** An endpoint of a group: its name and its HTTP method. */
export interface Endpoint {
  readonly identifier: string
  readonly method: string
}

export interface AccountRules {
  /**
   * Checks a request by its `group.endpoint`; undefined if there is nothing to check, as for nearly all requests. Endpoints
   * that only read are those of GET. `isOpen` is for an endpoint that needs no access token. Errors: M_USER_LOCKED, M_USER_SUSPENDED,
   * M_GUEST_ACCESS_FORBIDDEN.
   */
  readonly request: (
    session: Session,
    group: string,
    endpoint: Endpoint,
    isOpen?: boolean
  ) => Effect.Effect<void, MatrixError> | undefined
  /** The same for a call by WebSocket. */
  readonly call: (session: Session, call: SocketCall) => Effect.Effect<void, MatrixError>
}

export const makeAccountRules = Effect.gen(function* () {
  const standings = yield* AccountStandings
  const reader = yield* RoomReader

  const ownEvent = (session: Session): Effect.Effect<void, MatrixError> =>
    Effect.withFiber((fiber) => {
      const { eventId, roomId } = Context.getUnsafe(fiber.context, HttpRouter.RouteContext).params
      return Effect.flatMap(reader.event(session, roomId as RoomId, eventId as EventId), ({ sender }) =>
        sender === session.userId ? Effect.void : Effect.fail(suspendedError)
      )
    })

  const ofGuest = (name: string): Effect.Effect<void, MatrixError> => {
    if (!forGuests.has(name)) return Effect.fail(guestError)
    if (!profileChanges.has(name)) return Effect.void
    return Effect.withFiber((fiber) => {
      const { keyName } = Context.getUnsafe(fiber.context, HttpRouter.RouteContext).params
      return keyName === "displayname" ? Effect.void : Effect.fail(guestError)
    })
  }

  const request: AccountRules["request"] = (session, group, endpoint, isOpen = false) => {
    const { locked, suspended } = standings.of(session.userId)
    if (session.guest) {
      const allowed = isOpen && endpoint.method === "GET" ? Effect.void : ofGuest(`${group}.${endpoint.identifier}`)
      const stands = ofStanding(session, group, endpoint)
      return stands === undefined ? allowed : Effect.andThen(stands, allowed)
    }
    return locked || suspended ? ofStanding(session, group, endpoint) : undefined
  }

  const ofStanding: AccountRules["request"] = (session, group, endpoint) => {
    const { locked, suspended } = standings.of(session.userId)
    const name = `${group}.${endpoint.identifier}`
    if (locked && !whileLocked.has(name)) return Effect.fail(lockedError)
    if (!suspended) return undefined
    if (redactions.has(name)) return ownEvent(session)
    const allowed = endpoint.method === "GET" || groupsWhileSuspended.has(group) || whileSuspended.has(name)
    return allowed ? undefined : Effect.fail(suspendedError)
  }

  const call: AccountRules["call"] = (session, call) => {
    const { locked, suspended } = standings.of(session.userId)
    if (locked) return Effect.fail(lockedError)
    if (session.guest) return Effect.fail(guestError)
    return suspended && !mayCallWhileSuspended(call) ? Effect.fail(suspendedError) : Effect.void
  }

  return { request, call } satisfies AccountRules as AccountRules
})
