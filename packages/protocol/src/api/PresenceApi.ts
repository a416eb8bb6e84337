/**
 * Presence: who is online, and who may see it.
 *
 * Source: "Presence" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { UserId } from "../Identifiers.ts"
import { PresenceContent, PresenceListEntry, PresenceObserver } from "./Answers.ts"
import { Authentication } from "./Authentication.ts"
import { Done, listBody } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { boundedText } from "./Parameters.ts"

/** The states of presence. */
export const PresenceState = Schema.Literals(["online", "unavailable", "offline", "free_for_chat", "hidden"])
export type PresenceState = typeof PresenceState.Type

/** A presence to set: either key names the state. */
export const SetPresence = Schema.Struct({
  state: Schema.optionalKey(PresenceState),
  presence: Schema.optionalKey(PresenceState.annotate({ description: "The same as `state`, under its later name" })),
  status_msg: Schema.optionalKey(Schema.NullOr(boundedText(1024)))
})
  .check(
    Schema.makeFilter((value: { readonly state?: PresenceState; readonly presence?: PresenceState }) =>
      value.state !== undefined || value.presence !== undefined ? true : { path: ["state"], issue: "missing key" }
    )
  )
  .annotate({ identifier: "SetPresence" })
export type SetPresence = typeof SetPresence.Type

const users = Schema.optionalKey(Schema.Array(UserId).check(Schema.isMaxLength(1000)))

/** Changes of one's presence list, and answers to those who want one on theirs. */
export const ChangePresenceList = Schema.Struct({
  invite: users,
  drop: users,
  accept: users,
  deny: users
}).annotate({ identifier: "ChangePresenceList" })
export type ChangePresenceList = typeof ChangePresenceList.Type

const params = { userId: UserId }
const readList = {
  summary: "The presence list of the user",
  text: "The users on the list, with the presence of those who have accepted. Errors: M_FORBIDDEN.",
  who: "the user"
}
const changeList = {
  summary: "Change the presence list of the user",
  text:
    "`invite` asks users to be on it, `drop` removes users; `accept` and `deny` answer users who want the caller " +
    "on theirs. `deny` also revokes an earlier `accept`: the caller leaves that user's list, and a later request of " +
    "theirs waits for an answer. Errors: M_FORBIDDEN, M_NOT_FOUND.",
  who: "the user"
}
const list = { params, success: listBody<PresenceListEntry>(Schema.Array(PresenceListEntry)) } as const
const change = { params, payload: ChangePresenceList, success: Done } as const

export class PresenceApi extends HttpApiGroup.make("presence")
  .add(
    HttpApiEndpoint.get("getStatus", "/presence/:userId/status", { params, success: PresenceContent }).annotateMerge(
      documented({
        summary: "The presence of a user",
        text: "Errors: M_FORBIDDEN.",
        who: "who shares a room with the user, or was accepted by the user"
      })
    ),
    HttpApiEndpoint.put("setStatus", "/presence/:userId/status", {
      params,
      payload: SetPresence,
      success: Done
    }).annotateMerge(
      documented({ summary: "Set the presence of the user", text: "Errors: M_FORBIDDEN.", who: "the user" })
    ),
    HttpApiEndpoint.get("getList", "/presence/list/:userId", list).annotateMerge(documented(readList)),
    HttpApiEndpoint.post("changeList", "/presence/list/:userId", change).annotateMerge(documented(changeList)),
    HttpApiEndpoint.get("getObservers", "/presence/observers/:userId", {
      params,
      success: listBody<PresenceObserver>(Schema.Array(PresenceObserver))
    }).annotateMerge(
      documented({
        summary: "The observers of the user's presence",
        text:
          "The users with the caller on their presence list: those that the caller has accepted, and those that wait for " +
          "an answer. An extension of Greenroom. Errors: M_FORBIDDEN.",
        who: "the user"
      })
    ),
    HttpApiEndpoint.get("getListByOldPath", "/presence_list/:userId", list).annotateMerge(documented(readList)),
    HttpApiEndpoint.post("changeListByOldPath", "/presence_list/:userId", change).annotateMerge(documented(changeList))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Presence", description: "Presence, and its observers." })) {}
