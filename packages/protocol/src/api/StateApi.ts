/**
 * The current state of a room, by type and state key.
 *
 * Source: "Room structure" and "State messages" of the draft.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { RoomId } from "../Identifiers.ts"
import { SentEvent, StateEvents } from "./Answers.ts"
import { Authentication } from "./Authentication.ts"
import { AnyObject, AnyPayload, listBody } from "./Body.ts"
import { documented } from "./Documentation.ts"
import { EventType, StateKey } from "./Parameters.ts"

const byType = { roomId: RoomId, type: EventType }
const byKey = { ...byType, stateKey: StateKey }

const setDoc =
  "The content of the state event, which replaces the one before. Errors: M_BAD_JSON, M_FORBIDDEN, M_TOO_LARGE."
const setters = "members of the room with the power level of the type; m.room.member follows the membership rules"
const getDoc = "The content alone. Errors: M_NOT_FOUND, M_FORBIDDEN."
const topic = { topic: "Five o'clock" }
const membership = { membership: "join", displayname: "Alice" }
const readers = "members of the room, past members as of when they left"

export class StateApi extends HttpApiGroup.make("state")
  .add(
    HttpApiEndpoint.get("getAll", "/rooms/:roomId/state", {
      params: { roomId: RoomId },
      success: listBody(StateEvents)
    }).annotateMerge(documented({ summary: "All current state events", text: "Errors: M_FORBIDDEN.", who: readers })),
    HttpApiEndpoint.get("get", "/rooms/:roomId/state/:type", { params: byType, success: AnyObject }).annotateMerge(
      documented({ summary: "A state event with an empty state key", text: getDoc, who: readers, response: topic })
    ),
    HttpApiEndpoint.get("getByKey", "/rooms/:roomId/state/:type/:stateKey", {
      params: byKey,
      success: AnyObject
    }).annotateMerge(documented({ summary: "A state event", text: getDoc, who: readers, response: membership })),
    HttpApiEndpoint.put("set", "/rooms/:roomId/state/:type", {
      params: byType,
      payload: AnyPayload,
      success: SentEvent
    }).annotateMerge(
      documented({ summary: "Set state with an empty state key", text: setDoc, who: setters, request: topic })
    ),
    HttpApiEndpoint.put("setByKey", "/rooms/:roomId/state/:type/:stateKey", {
      params: byKey,
      payload: AnyPayload,
      success: SentEvent
    }).annotateMerge(documented({ summary: "Set state", text: setDoc, who: setters, request: membership }))
  )
  .middleware(Authentication)
  .annotateMerge(
    OpenApi.annotations({ title: "State", description: "The current state of a room, by type and state key." })
  ) {}
