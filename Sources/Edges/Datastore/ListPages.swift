/// A long list in parts, so that neither side holds all of it at once; together the parts are one truth.

public struct ListPage: Hashable, Sendable {
  public var items: [KeyValue]
  /// The same for every page of one list: what all of them show was true at this revision.
  public var revision: Revision
  /// What to ask for the next page with; nil: this was the last.
  public var next: ListContinuation?
  public init(items: [KeyValue], revision: Revision, next: ListContinuation? = nil) {
    (self.items, self.revision, self.next) = (items, revision, next)
  }
}

/// Behind which key a list goes on, and at which revision.
public struct ListContinuation: Hashable, Sendable {
  public var key: String
  public var revision: Revision
  public init(after key: String, at revision: Revision) { (self.key, self.revision) = (key, revision) }
}

extension Datastore {
  /// How many items a page has where nobody says otherwise: a few megabytes of endpoints.
  public static var pageUsual: Int { 2000 }

  /// A store that cannot read the past answers with one page that holds everything, which is a truth as well.
  public func page(prefix: String, limit: Int, from continuation: ListContinuation?) async throws(DatastoreError) -> ListPage {
    let (items, revision) = try await list(prefix: prefix)
    guard let continuation else { return ListPage(items: items, revision: revision) }
    throw continuation.revision == revision ? .unusable("\(name): its lists have one page") : .compacted
  }

  /// Hands out everything under `prefix` page by page, in order of keys, all of it true at the revision that is returned. History may be cut
  /// under the feet of a long list: then `restart` is called, everything handed out is void, and it begins anew with longer pages; one
  /// page alone is always a truth.
  public func eachPage(
    prefix: String, limit: Int = Self.pageUsual, restart: () -> Void = {}, _ body: ([KeyValue]) -> Void
  ) async throws(DatastoreError) -> Revision {
    for limit in [limit, limit * 8, limit * 64, 0] {
      do throws(DatastoreError) {
        var page = try await page(prefix: prefix, limit: limit, from: nil)
        body(page.items)
        while let next = page.next {
          page = try await self.page(prefix: prefix, limit: limit, from: next)
          body(page.items)
        }
        return page.revision
      } catch .compacted {
        restart()
      }
    }
    throw .unavailable("\(name): its history is compacted faster than a list of \(prefix) takes")
  }

  public func remembers(_ item: KeyValue) async throws(DatastoreError) -> Bool { true }
  public var connection: DatastoreConnection? { nil }
}
