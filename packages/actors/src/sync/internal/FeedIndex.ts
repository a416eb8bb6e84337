/**
 * The open feeds of this node, by their users and by the rooms that the users are in.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { UserFeed } from "./UserFeed.ts"

const nobody: ReadonlySet<UserFeed> = new Set()

export class FeedIndex {
  private readonly byUser = new Map<UserId, UserFeed>()
  private readonly byRoom = new Map<RoomId, Set<UserFeed>>()

  get(userId: UserId): UserFeed | undefined {
    return this.byUser.get(userId)
  }

  /** The feeds of the members of a room. */
  inRoom(roomId: RoomId): ReadonlySet<UserFeed> {
    return this.byRoom.get(roomId) ?? nobody
  }

  values(): Iterable<UserFeed> {
    return this.byUser.values()
  }

  isEmpty(): boolean {
    return this.byUser.size === 0
  }

  add(feed: UserFeed): void {
    for (const roomId of feed.rooms) this.enter(feed, roomId)
    this.byUser.set(feed.userId, feed)
  }

  remove(feed: UserFeed): void {
    this.byUser.delete(feed.userId)
    for (const roomId of feed.rooms) this.quit(feed, roomId)
  }

  /** The user of the feed is in the room from now on. */
  enter(feed: UserFeed, roomId: RoomId): void {
    const members = this.byRoom.get(roomId)
    if (members === undefined) this.byRoom.set(roomId, new Set([feed]))
    else members.add(feed)
  }

  /** The user of the feed is not in the room any more. */
  quit(feed: UserFeed, roomId: RoomId): void {
    const members = this.byRoom.get(roomId)
    members?.delete(feed)
    if (members?.size === 0) this.byRoom.delete(roomId)
  }
}
