/**
 * Annotations (reactions) that our users send: a user annotates an event once by each type and key, until the annotation is
 * redacted. Annotations from other servers are not refused.
 *
 * Source: "Avoiding duplicate annotations" of the client-server specification.
 */
import { relationOf } from "@greenroom/protocol/client-server/Relation"
import type { JsonObject } from "@greenroom/protocol/Json"
import { DuplicateAnnotation } from "@greenroom/protocol/MatrixError"
import type { EventProposal } from "@greenroom/room/RoomVersion"
import { type Annotation, RelationStore } from "@greenroom/store/RelationStore"
import { Effect } from "effect"
import type { RoomState } from "./RoomState.ts"

const annotationOf = ({ content, sender, type }: EventProposal): Annotation | undefined => {
  const relation = relationOf({ content })
  if (relation?.relType !== "m.annotation") return undefined
  const { key } = content["m.relates_to"] as JsonObject
  return typeof key === "string" ? { target: relation.eventId, sender, type, key } : undefined
}

export const makeRoomAnnotations = Effect.gen(function* () {
  const relations = yield* RelationStore
  /** The annotations whose commit is under way. */
  const pending = new Set<string>()

  const refusal = ({ target }: Annotation) =>
    new DuplicateAnnotation({ error: `The user has annotated ${target} with this key already` })

  /** Sends an event. Errors: M_DUPLICATE_ANNOTATION if it repeats an annotation. */
  const unlessRepeated = <A, E>(
    room: RoomState,
    proposal: EventProposal,
    send: Effect.Effect<A, E>
  ): Effect.Effect<A, E | DuplicateAnnotation> => {
    const annotation = annotationOf(proposal)
    if (annotation === undefined) return send
    const name = JSON.stringify(annotation)
    return Effect.suspend(() => {
      if (pending.has(name)) return Effect.fail(refusal(annotation))
      pending.add(name)
      const isRepeated = relations.isAnnotated(room.roomNid, annotation)
      const sent = Effect.flatMap(
        isRepeated,
        (repeated): Effect.Effect<A, E | DuplicateAnnotation> => (repeated ? Effect.fail(refusal(annotation)) : send)
      )
      return Effect.ensuring(
        sent,
        Effect.sync(() => pending.delete(name))
      )
    })
  }

  return { unlessRepeated }
})

export type RoomAnnotations = Effect.Success<typeof makeRoomAnnotations>
