import Datastore
import DatastoreMemory
import Testing

@Suite("A rehearsal of writes")
struct RehearsalTests {
  @Test("Its reads see its own writes on top of the real store, which stays as it is")
  func layers() async throws {
    let real = MemoryDatastore()
    _ = try await real.transact(if: [], then: [.put("/a/1", [1]), .put("/a/3", [3])])
    let rehearsal = Rehearsal(of: real)
    let one = try #require(try await rehearsal.get("/a/1"))
    guard
      case .committed(let revision) = try await rehearsal.transact(
        if: [.modRevision("/a/1", equals: one.modRevision), .absent("/a/2")], then: [.put("/a/1", [9]), .put("/a/2", [2]), .delete("/a/3")])
    else { return #expect(Bool(false), "the comparisons hold") }
    #expect(try await rehearsal.list(prefix: "/a/").items.map(\.value) == [[9], [2]])
    #expect(try await rehearsal.get("/a/3") == nil)
    let changed = try #require(try await rehearsal.get("/a/1"))
    #expect(changed.modRevision == revision && changed.modRevision > one.modRevision && changed.createRevision == one.createRevision)
    #expect(try await real.list(prefix: "/a/").items.map(\.value) == [[1], [3]])
  }

  @Test("Comparisons are of what it sees: its own writes and deletions count")
  func comparisons() async throws {
    let real = MemoryDatastore()
    _ = try await real.transact(if: [], then: [.put("/a", [1])])
    let rehearsal = Rehearsal(of: real)
    let old = try #require(try await rehearsal.get("/a"))
    _ = try await rehearsal.transact(if: [], then: [.put("/a", [2])])
    guard
      case .conflict(let present) = try await rehearsal.transact(if: [.modRevision("/a", equals: old.modRevision)], then: [.delete("/a")])
    else { return #expect(Bool(false), "the revision is another by now") }
    #expect(present[0]?.value == [2])
    _ = try await rehearsal.transact(if: [], then: [.delete("/a")])
    guard case .committed = try await rehearsal.transact(if: [.absent("/a")], then: [.put("/a", [3])])
    else { return #expect(Bool(false), "it is absent after its deletion") }
  }
}
