/**
 * Profiles and presence lists. Changes are messages to the `User` actor; reads are answered from the store.
 *
 * A presence list needs the permission of each user on it. It is given by `answerPresenceInvite`, or by having each other on
 * the list. Users of other servers are asked by EDU.
 *
 * Source: "Profiles" and "Presence" of the draft and of the client-server specification.
 */
import type { PresenceObserver } from "@greenroom/protocol/api/Answers"
import type { ProfileVisibility } from "@greenroom/protocol/api/ProfileApi"
import { type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import {
  BadJson,
  BadRequest,
  Forbidden,
  type MatrixError,
  NotFound,
  ProfileTooLarge,
  TooLarge
} from "@greenroom/protocol/MatrixError"
import { byteLength } from "@greenroom/protocol/Text"
import { AccountStore } from "@greenroom/store/AccountStore"
import { PresenceListStore } from "@greenroom/store/PresenceListStore"
import { ProfileStore } from "@greenroom/store/ProfileStore"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Context, Effect, Layer, Option } from "effect"
import { OutgoingEdus } from "../federation/OutgoingEdus.ts"
import { RemoteQueries } from "../federation/RemoteQueries.ts"
import type { PresenceContent } from "../presence/PresenceContent.ts"
import { Presences } from "../presence/Presences.ts"
import { ask } from "../runtime/Ask.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import type { Session } from "../runtime/Session.ts"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { maxProfileBytes, maxProfileFields, User } from "./UserProtocol.ts"

/** Readers of a profile field: everybody, users in a common room, accepted users, nobody. */
export type Visibility = ProfileVisibility

/** A user on a presence list, with the presence that the owner of the list may see. */
export interface PresenceListEntry extends PresenceContent {
  readonly accepted: boolean
}

/** The longest display name and avatar URL, in UTF-16 code units. */
const maxDisplayName = 1_024
const maxAvatarUrl = 4_096
/** The largest value of another field, in bytes of JSON. */
const maxFieldBytes = 16_384
/** How many users one request may invite or drop. */
const maxListChanges = 1_000
/** How many users are invited concurrently. */
const concurrentInvites = 16

const wellKnownFields: ReadonlySet<string> = new Set([
  "displayname",
  "avatar_url",
  "email",
  "phone",
  "url",
  "location",
  "bio"
])

/** A well-known name, or a namespaced one such as `org.example.pet`. */
export const isFieldName = (field: string): boolean =>
  wellKnownFields.has(field) || (field.length <= 255 && /^[a-z0-9_-]+(\.[a-z0-9_-]+)+$/i.test(field))

const checkText = (field: string, value: Json, most: number): Effect.Effect<void, MatrixError> => {
  if (typeof value !== "string" || !value.isWellFormed()) {
    return Effect.fail(new BadJson({ error: `${field}: must be a string of valid Unicode, or null` }))
  }
  return value.length <= most
    ? Effect.void
    : Effect.fail(new TooLarge({ error: `${field}: has more than ${most} characters` }))
}

const checkField = (field: string, value: Json): Effect.Effect<void, MatrixError> => {
  if (!isFieldName(field)) {
    const known = [...wellKnownFields].join(", ")
    return Effect.fail(
      new BadJson({ error: `${field}: a profile has ${known} and namespaced fields (org.example.pet)` })
    )
  }
  if (value === null) return Effect.void
  if (field === "displayname") return checkText(field, value, maxDisplayName)
  if (field === "avatar_url") return checkText(field, value, maxAvatarUrl)
  const bytes = byteLength(JSON.stringify(value))
  if (bytes > maxProfileBytes) {
    return Effect.fail(new ProfileTooLarge({ error: `A profile has at most ${maxProfileBytes} bytes` }))
  }
  return bytes <= maxFieldBytes
    ? Effect.void
    : Effect.fail(new TooLarge({ error: `${field}: has more than ${maxFieldBytes} bytes` }))
}

const onlyOneself = (session: Session, userId: UserId): Effect.Effect<void, MatrixError> =>
  session.userId === userId
    ? Effect.void
    : Effect.fail(new Forbidden({ error: `userId: the access token belongs to ${session.userId}` }))

/** The content of the EDUs about presence lists. */
const inviteContent = (observer: UserId, observed: UserId): JsonObject => ({
  observer_user: observer,
  observed_user: observed
})

/** The valid fields of a profile from another server. */
const readRemoteProfile = (profile: JsonObject): JsonObject =>
  Object.fromEntries(
    Object.entries(profile)
      .filter(([field, value]) =>
        field === "displayname" || field === "avatar_url" ? typeof value === "string" : isFieldName(field)
      )
      .slice(0, maxProfileFields)
  )

/** Profiles, as a viewer sees them. */
const makeProfiles = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const accounts = yield* AccountStore
  const store = yield* ProfileStore
  const rooms = yield* RoomStore
  const roomServers = yield* RoomServerStore
  const lists = yield* PresenceListStore
  const remote = yield* RemoteQueries

  const mustExist = Effect.fnUntraced(function* (userId: UserId) {
    const account = serverNameOf(userId) === serverName ? yield* accounts.find(userId) : Option.none()
    if (Option.isNone(account) || account.value.deactivatedAt !== undefined) {
      return yield* new NotFound({ error: `There is no user ${userId} on this server` })
    }
  })

  const maySee = (viewer: UserId | undefined, userId: UserId, visibility: Visibility): Effect.Effect<boolean> => {
    if (viewer === userId || visibility === "public") return Effect.succeed(true)
    if (viewer === undefined) return Effect.succeed(false)
    switch (visibility) {
      case "rooms":
        return rooms.shareRoom(viewer, userId)
      case "contacts":
        return lists.accepted(userId, viewer)
      case "private":
        return Effect.succeed(false)
    }
  }

  /**
   * A user of another server: that server sends us the fields for users who share a room if one of our users does, without
   * naming them. Our other users see only public fields.
   */
  const remoteProfile = Effect.fnUntraced(function* (viewer: UserId | undefined, userId: UserId) {
    const fields = readRemoteProfile(yield* remote.profile(userId))
    if (viewer !== undefined && (yield* rooms.shareRoom(viewer, userId))) return fields
    const forRooms = (yield* roomServers.sharing(serverName, [userId])).has(userId)
    const isVisible = ([field]: readonly [string, Json]) =>
      !forRooms || field === "displayname" || field === "avatar_url"
    return Object.fromEntries(Object.entries(fields).filter(isVisible))
  })

  const profile = Effect.fn("Users.profile")(function* (session: Session | undefined, userId: UserId) {
    if (serverNameOf(userId) !== serverName) return yield* remoteProfile(session?.userId, userId)
    yield* mustExist(userId)
    const fields = yield* store.fields(userId)
    const visible = new Set<Visibility>()
    for (const visibility of new Set(Array.from(fields.values(), (field) => field.visibility))) {
      if (yield* maySee(session?.userId, userId, visibility)) visible.add(visibility)
    }
    return Object.fromEntries(
      Array.from(fields)
        .filter(([, { visibility }]) => visible.has(visibility))
        .map(([field, { value }]) => [field, value])
    ) as JsonObject
  })

  /** A field that the user has not set. Clients request name and avatar of everybody: having none is no error. */
  const unset = (userId: UserId, field: string): Effect.Effect<JsonObject, NotFound> =>
    field === "displayname" || field === "avatar_url"
      ? Effect.succeed({ [field]: null })
      : Effect.fail(new NotFound({ error: `${userId} has no ${field}` }))

  const remoteField = Effect.fnUntraced(function* (viewer: UserId | undefined, userId: UserId, field: string) {
    const fields = yield* remoteProfile(viewer, userId)
    return Object.hasOwn(fields, field) ? { [field]: fields[field]! } : yield* unset(userId, field)
  })

  const profileField = Effect.fn("Users.profileField")(function* (
    session: Session | undefined,
    userId: UserId,
    field: string
  ) {
    if (serverNameOf(userId) !== serverName) return yield* remoteField(session?.userId, userId, field)
    yield* mustExist(userId)
    const found = yield* store.field(userId, field)
    if (Option.isNone(found) || !(yield* maySee(session?.userId, userId, found.value.visibility))) {
      return yield* unset(userId, field)
    }
    return { [field]: found.value.value }
  })

  return { mustExist, profile, profileField }
})

/** How often changes of profiles that a node did not finish are resumed. */
const propagationInterval = "10 minutes"

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const actor = yield* User.client
  const lists = yield* PresenceListStore
  const presences = yield* Presences
  const edus = yield* OutgoingEdus
  const { mustExist, profile, profileField } = yield* makeProfiles
  const { pendingPropagations } = yield* ProfileStore

  // Changes of profiles that did not reach all rooms before the process, or another node, ended.
  const propagate = Effect.gen(function* () {
    for (const userId of yield* pendingPropagations) yield* actor(userId).PropagateProfile(undefined, { discard: true })
  })
  yield* periodicallyOnce("Sending changed profiles to the rooms of their users", propagationInterval, propagate, {
    atOnce: true
  })

  const setProfileField = Effect.fn("Users.setProfileField")(function* (
    session: Session,
    userId: UserId,
    field: string,
    value: Json,
    visibility: Visibility = "public"
  ) {
    yield* onlyOneself(session, userId)
    yield* checkField(field, value)
    yield* ask(actor(userId).SetProfileField({ field, value, visibility }))
  })

  const presenceList = Effect.fn("Users.presenceList")(function* (session: Session, userId: UserId) {
    yield* onlyOneself(session, userId)
    const list = yield* lists.list(userId)
    const seen = yield* presences.many(list.filter(({ accepted }) => accepted).map((entry) => entry.userId))
    const contents = new Map(seen.map((content) => [content.user_id, content]))
    return list.map(
      (entry): PresenceListEntry => ({
        ...(contents.get(entry.userId) ?? { user_id: entry.userId, state: "offline", presence: "offline" }),
        accepted: entry.accepted
      })
    )
  })

  const presenceObservers = Effect.fn("Users.presenceObservers")(function* (session: Session, userId: UserId) {
    yield* onlyOneself(session, userId)
    const entriesOf = (users: ReadonlyArray<UserId>, accepted: boolean) =>
      users.map((user): PresenceObserver => ({ user_id: user, accepted }))
    const [accepted, asking] = yield* Effect.all([lists.observers(userId), lists.invitations(userId)])
    const byId = (a: PresenceObserver, b: PresenceObserver) => (a.user_id < b.user_id ? -1 : 1)
    return [...entriesOf(accepted, true), ...entriesOf(asking, false)].sort(byId)
  })

  const isOurs = (userId: UserId): boolean => serverNameOf(userId) === serverName

  const notifyServer = (destination: ServerName, edu_type: string, observer: UserId, observed: UserId) =>
    edus.send({ destination, edu_type, content: inviteContent(observer, observed) })

  /** Asks a user who is on the observer's list for permission. */
  const invite = (observer: UserId, observed: UserId): Effect.Effect<void, MatrixError> =>
    isOurs(observed)
      ? Effect.asVoid(ask(actor(observed).PresenceInvited({ observer })))
      : notifyServer(serverNameOf(observed), "m.presence_invite", observer, observed)

  const checkInvites = Effect.fnUntraced(function* (observer: UserId, observed: ReadonlyArray<UserId>) {
    if (observed.includes(observer))
      return yield* new BadJson({ error: "invite: users cannot be on their own presence list" })
    yield* Effect.forEach(observed.filter(isOurs), mustExist, { concurrency: concurrentInvites, discard: true })
  })

  const updatePresenceList = Effect.fn("Users.updatePresenceList")(function* (
    session: Session,
    userId: UserId,
    change: { readonly invite?: ReadonlyArray<UserId>; readonly drop?: ReadonlyArray<UserId> }
  ) {
    yield* onlyOneself(session, userId)
    const wanted = [...new Set(change.invite)]
    const unwanted = [...new Set(change.drop)]
    if (wanted.length + unwanted.length > maxListChanges) {
      return yield* new BadRequest({ error: `At most ${maxListChanges} users at once` })
    }
    yield* checkInvites(userId, wanted)
    if (unwanted.length > 0) yield* ask(actor(userId).DropFromList({ observed: unwanted }))
    if (wanted.length === 0) return
    yield* ask(actor(userId).InviteToList({ observed: wanted }))
    yield* Effect.forEach(wanted, (observed) => invite(userId, observed), {
      concurrency: concurrentInvites,
      discard: true
    })
    yield* acceptInReturn(userId, wanted)
  })

  /** Accepts waiting invitations of the users that this user has just invited. */
  const acceptInReturn = Effect.fnUntraced(function* (userId: UserId, invited: ReadonlyArray<UserId>) {
    const waiting = new Set(yield* lists.invitations(userId))
    for (const observer of invited) {
      if (waiting.has(observer)) yield* answer(userId, observer, true)
    }
  })

  const answer = Effect.fnUntraced(function* (observed: UserId, observer: UserId, accept: boolean) {
    yield* ask(actor(observed).AnswerPresenceInvite({ observer, accept }))
    if (isOurs(observer)) return
    yield* notifyServer(serverNameOf(observer), accept ? "m.presence_accept" : "m.presence_deny", observer, observed)
  })

  return {
    profile,
    profileField,
    setProfileField,
    presenceList,
    updatePresenceList,
    answerPresenceInvite: (session: Session, observer: UserId, accept: boolean) =>
      answer(session.userId, observer, accept),
    presenceObservers,
    forget: (userId: UserId) => ask(actor(userId).Forget())
  }
})

/** Profiles and presence lists. */
export class Users extends Context.Service<
  Users,
  {
    /** The fields that their visibility shows to the caller; without a session, the public ones. */
    readonly profile: (session: Session | undefined, userId: UserId) => Effect.Effect<JsonObject, MatrixError>
    /**
     * As `profile`. The field in an object: `{"displayname": "Alice"}`; null for a user without a display name or avatar.
     * Errors: M_NOT_FOUND.
     */
    readonly profileField: (
      session: Session | undefined,
      userId: UserId,
      field: string
    ) => Effect.Effect<JsonObject, MatrixError>
    /** The user alone. `displayname` and `avatar_url` are strings and always public; null removes the field. */
    readonly setProfileField: (
      session: Session,
      userId: UserId,
      field: string,
      value: Json,
      visibility?: Visibility
    ) => Effect.Effect<void, MatrixError>

    /** The user alone. */
    readonly presenceList: (
      session: Session,
      userId: UserId
    ) => Effect.Effect<ReadonlyArray<PresenceListEntry>, MatrixError>
    /** The user alone. Invites users to be on the list, and drops users from it. */
    readonly updatePresenceList: (
      session: Session,
      userId: UserId,
      change: { readonly invite?: ReadonlyArray<UserId>; readonly drop?: ReadonlyArray<UserId> }
    ) => Effect.Effect<void, MatrixError>
    /**
     * The user alone: answers an invitation to be on another user's list. `accept: false` also takes back a permission that
     * was given; the observer's next request waits for an answer then. Errors: M_NOT_FOUND.
     */
    readonly answerPresenceInvite: (
      session: Session,
      observer: UserId,
      accept: boolean
    ) => Effect.Effect<void, MatrixError>
    /** Callers: the user. The observers of the user's presence, and those that ask for it, in the order of their IDs. */
    readonly presenceObservers: (
      session: Session,
      userId: UserId
    ) => Effect.Effect<ReadonlyArray<PresenceObserver>, MatrixError>
    /** The account was deactivated: removes profile and lists. */
    readonly forget: (userId: UserId) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Users") {
  static readonly layer = Layer.effect(Users, make)
}
