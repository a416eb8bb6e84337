/**
 * Events of a batch of commits with the columns that are computed from them: relations, default pushes, and the number by which
 * unread messages are counted.
 */
import { type DefaultPush, defaultPush, type Relation, relationOf } from "@greenroom/protocol/client-server/Relation"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, isEventId } from "@greenroom/protocol/Identifiers"
import { EventStatus, type LoggedEvent, type RoomCommit } from "../../RoomCommit.ts"
import { collect, writerOf } from "./commitRows.ts"

/** The columns of an event beside its body. */
interface DescribedEvent {
  readonly logged: LoggedEvent
  readonly push: DefaultPush
  readonly relation: Relation | undefined
  readonly threadId: EventId | undefined
  /**
   * Events of the main timeline that notify members are numbered, counted from what the room had before the batch. -1 - n
   * of another one in the timeline: it comes after n numbered ones. Null outside the timeline.
   */
  readonly notifyOffset: number | null
}

export interface DescribedCommit {
  readonly commit: RoomCommit
  readonly events: ReadonlyArray<DescribedEvent>
}

/** Describes the events of all commits, and tells how many numbered ones each writer adds. */
export const describe = (commits: ReadonlyArray<RoomCommit>) => {
  const counts = new Map<string, number>()
  const described = commits.map((commit): DescribedCommit => {
    if (commit.events.length === 0) return { commit, events: [] }
    const writer = writerOf(commit)
    let count = counts.get(writer) ?? 0
    const events = commit.events.map((logged): DescribedEvent => {
      const relation = relationOf(logged.event)
      const threadId = relation?.relType === "m.thread" ? relation.eventId : undefined
      const push = defaultPush(logged.event, logged.push?.mentionsRoom ?? false, relation)
      const inTimeline = logged.status === EventStatus.timeline
      const isNumbered = inTimeline && push.notifies && threadId === undefined
      if (isNumbered) count++
      return { logged, push, relation, threadId, notifyOffset: !inTimeline ? null : isNumbered ? count : -1 - count }
    })
    counts.set(writer, count)
    return { commit, events }
  })
  return { described, notifying: counts }
}

export const rowsOfDescribed = <A>(
  commits: ReadonlyArray<DescribedCommit>,
  rows: (commit: DescribedCommit) => ReadonlyArray<A>
) => collect(commits, ({ commit }) => commit, rows)

/**
 * The message that feedback is about, the event that a redaction strips, or the one that a relation names, so that both
 * can be found together.
 */
export const relatesTo = ({ logged: { event }, relation }: DescribedEvent): string | null => {
  if (event.redacts !== undefined) return event.redacts
  if (relation !== undefined) return relation.eventId
  const target = event.content.target_event_id
  return event.type === "m.room.message.feedback" && isEventId(target) ? target : null
}

/** The bodies of the events; an event that is redacted in the same statement is never there with its content. */
export const bodiesOf = (commits: ReadonlyArray<RoomCommit>): ReadonlyArray<string> => {
  const key = ({ fence, roomNid }: RoomCommit, event: Event) => `${roomNid} ${fence} ${event.event_id}`
  const redacted = new Map<string, Event>()
  for (const commit of commits) for (const event of commit.redactions) redacted.set(key(commit, event), event)
  if (redacted.size === 0) return commits.flatMap(({ events }) => events.map(({ event }) => JSON.stringify(event)))
  return commits.flatMap((commit) =>
    commit.events.map(({ event }) => JSON.stringify(redacted.get(key(commit, event)) ?? event))
  )
}

/** The number of the last event that each writer adds to the timeline. */
export const latestEvents = (commits: ReadonlyArray<RoomCommit>): ReadonlyMap<string, number> => {
  const latest = new Map<string, number>()
  for (const { events, fence, placed = [], roomNid } of commits) {
    let last = 0
    for (const { nid, status } of events) if (status === EventStatus.timeline && nid > last) last = nid
    for (const { nid, status } of placed) if (status === EventStatus.timeline && nid > last) last = nid
    if (last === 0) continue
    const writer = writerOf({ roomNid, fence })
    latest.set(writer, Math.max(last, latest.get(writer) ?? 0))
  }
  return latest
}
