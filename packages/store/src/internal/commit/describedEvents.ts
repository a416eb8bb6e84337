/**
 * Events of a batch of commits with the columns that are computed from them: relations, default pushes, and the number by which
 * unread messages are counted.
 */
import { type DefaultPush, defaultPush, type Relation, relationOf } from "@greenroom/protocol/client-server/Relation"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, isEventId } from "@greenroom/protocol/Identifiers"
import { EventStatus, type LoggedEvent, type RoomCommit } from "../../RoomCommit.ts"
import type { ThreadOf } from "./eventThreads.ts"

/** The events of a commit that are new in the graph. */
export const placedIn = ({ events, placed = [] }: RoomCommit): ReadonlyArray<LoggedEvent> =>
  placed.length === 0 ? events : [...events, ...placed]

/** An event with its columns. */
export interface DescribedEvent {
  readonly logged: LoggedEvent
  /** The event as JSON, without its content if the same statement redacts it. */
  readonly body: string
  readonly push: DefaultPush
  readonly relation: Relation | undefined
  /** The root of the thread that the event is in. */
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

/** A writer with the sum of its commits in a batch. */
export interface Writer {
  /** Its last commit, which has the row of the room. */
  last: RoomCommit
  /** How many numbered events it adds. */
  notifying: number
  /** The number of the last event that it adds to the timeline. */
  latestNid: number | null
}

const writerOf = (writers: Map<string, Writer>, commit: RoomCommit): Writer => {
  const key = `${commit.roomNid}/${commit.fence}`
  const known = writers.get(key)
  if (known !== undefined) return known
  const writer = { last: commit, notifying: 0, latestNid: null }
  writers.set(key, writer)
  return writer
}

const laterInTimeline = (latest: number | null, { nid, status }: LoggedEvent): number | null =>
  status === EventStatus.timeline && (latest === null || nid > latest) ? nid : latest

/** The events as they are stored: those that the same batch redacts are stored without their content. */
const storedForm = (commits: ReadonlyArray<RoomCommit>) => {
  const key = ({ fence, roomNid }: RoomCommit, event: Event) => `${roomNid} ${fence} ${event.event_id}`
  const redacted = new Map<string, Event>()
  for (const commit of commits) for (const event of commit.redactions) redacted.set(key(commit, event), event)
  if (redacted.size === 0) return (_commit: RoomCommit, event: Event) => event
  return (commit: RoomCommit, event: Event) => redacted.get(key(commit, event)) ?? event
}

const describeEvent = (writer: Writer, logged: LoggedEvent, stored: Event, threadOf: ThreadOf): DescribedEvent => {
  const relation = relationOf(logged.event)
  const threadId = relation && threadOf(writer.last.roomNid, logged.event.event_id)
  const push = defaultPush(logged.event, logged.push?.mentionsRoom ?? false, relation)
  const inTimeline = logged.status === EventStatus.timeline
  const isNumbered = inTimeline && push.notifies && threadId === undefined
  if (isNumbered) writer.notifying++
  const notifyOffset = !inTimeline ? null : isNumbered ? writer.notifying : -1 - writer.notifying
  return { logged, body: JSON.stringify(stored), push, relation, threadId, notifyOffset }
}

/** Describes the events of all commits, and their writers. */
export const describe = (commits: ReadonlyArray<RoomCommit>, threadOf: ThreadOf) => {
  const writers = new Map<string, Writer>()
  const stored = storedForm(commits)
  const described = commits.map((commit): DescribedCommit => {
    const writer = writerOf(writers, commit)
    writer.last = commit
    for (const logged of placedIn(commit)) writer.latestNid = laterInTimeline(writer.latestNid, logged)
    const describeOne = (logged: LoggedEvent) => describeEvent(writer, logged, stored(commit, logged.event), threadOf)
    return { commit, events: commit.events.map(describeOne) }
  })
  return { described, writers: [...writers.values()] }
}

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
