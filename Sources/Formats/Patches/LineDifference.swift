/// The difference of two texts, line by line, in the unified form that `diff -u` prints and `patch` reads.
///
/// Eugene Myers, "An O(ND) Difference Algorithm and Its Variations" (1986). Hazard: time and memory grow with the square of the number of
/// differences; beyond `differencesMax` the rest counts as replaced as a whole, which is still right, if not short.

public struct LineDifference: Hashable, Sendable {
  public enum Line: Hashable, Sendable {
    case same(String)
    case removed(String)
    case added(String)
  }
  public let lines: [Line]

  public init(from old: String, to new: String) {
    self.init(from: Self.split(old), to: Self.split(new))
  }

  public var isEmpty: Bool { lines.allSatisfy { if case .same = $0 { true } else { false } } }

  static let differencesMax = 2000

  private static func split(_ text: String) -> [String] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    if lines.last == "" { lines.removeLast() }
    return lines
  }

  init(from old: [String], to new: [String]) {
    var head = 0
    while head < old.count, head < new.count, old[head] == new[head] { head += 1 }
    var tail = 0
    while tail < old.count - head, tail < new.count - head, old[old.count - 1 - tail] == new[new.count - 1 - tail] { tail += 1 }
    let (a, b) = (Array(old[head..<(old.count - tail)]), Array(new[head..<(new.count - tail)]))
    lines =
      old[..<head].map(Line.same) + (Self.shortest(a, b) ?? a.map(Line.removed) + b.map(Line.added))
      + old[(old.count - tail)...].map(Line.same)
  }

  /// Nil if there are more than `differencesMax` differences.
  private static func shortest(_ a: [String], _ b: [String]) -> [Line]? {
    if a.isEmpty { return b.map(Line.added) }
    if b.isEmpty { return a.map(Line.removed) }
    let most = min(a.count + b.count, differencesMax)
    // The furthest x on each diagonal k = x - y, for each number of differences; diagonal k at index k + depth.
    var trace: [[Int]] = []
    var previous: [Int] = []
    for depth in 0...most {
      var reach = [Int](repeating: 0, count: 2 * depth + 1)
      for k in stride(from: -depth, through: depth, by: 2) {
        // One step away from the furthest points of one difference less: down (added) or right (removed).
        func before(_ k: Int) -> Int { abs(k) < depth ? previous[k + depth - 1] : -1 }
        var x = depth == 0 ? 0 : k == -depth || (k != depth && before(k - 1) < before(k + 1)) ? before(k + 1) : before(k - 1) + 1
        while x < a.count, x - k < b.count, a[x] == b[x - k] { x += 1 }
        reach[k + depth] = x
        if x >= a.count, x - k >= b.count {
          trace.append(reach)
          return walk(back: trace, a, b)
        }
      }
      trace.append(reach)
      previous = reach
    }
    return nil
  }

  private static func walk(back trace: [[Int]], _ a: [String], _ b: [String]) -> [Line] {
    var lines: [Line] = []
    var (x, y) = (a.count, b.count)
    for depth in stride(from: trace.count - 1, through: 1, by: -1) {
      let previous = trace[depth - 1]
      func before(_ k: Int) -> Int { abs(k) < depth ? previous[k + depth - 1] : -1 }
      let k = x - y
      let isAdded = k == -depth || (k != depth && before(k - 1) < before(k + 1))
      let from = isAdded ? k + 1 : k - 1
      let (startX, startY) = (before(from), before(from) - from)
      while x > startX, y > startY {
        lines.append(.same(a[x - 1]))
        (x, y) = (x - 1, y - 1)
      }
      lines.append(isAdded ? .added(b[y - 1]) : .removed(a[x - 1]))
      (x, y) = (startX, startY)
    }
    while x > 0 {
      lines.append(.same(a[x - 1]))
      x -= 1
    }
    return lines.reversed()
  }

  // MARK: The unified form

  public enum Mark: Hashable, Sendable { case header, place, same, removed, added }

  /// Lines with what they are, so that a terminal may colour them; none if there is no difference.
  public func unified(from old: String, to new: String, context: Int = 3) -> [(text: String, mark: Mark)] {
    let changed = lines.indices.filter { if case .same = lines[$0] { false } else { true } }
    guard let first = changed.first else { return [] }
    var hunks: [Range<Int>] = [max(0, first - context)..<min(lines.count, first + 1 + context)]
    for index in changed.dropFirst() {
      let range = max(0, index - context)..<min(lines.count, index + 1 + context)
      if range.lowerBound <= hunks[hunks.count - 1].upperBound {
        hunks[hunks.count - 1] = hunks[hunks.count - 1].lowerBound..<range.upperBound
      } else {
        hunks.append(range)
      }
    }
    var result: [(String, Mark)] = [("--- \(old)", .header), ("+++ \(new)", .header)]
    var (oldLine, newLine, done) = (1, 1, 0)
    for hunk in hunks {
      // All lines between two hunks are the same on both sides.
      oldLine += hunk.lowerBound - done
      newLine += hunk.lowerBound - done
      var body: [(String, Mark)] = []
      var (oldCount, newCount) = (0, 0)
      for line in lines[hunk] {
        switch line {
        case .same(let text):
          body.append((" " + text, .same))
          (oldCount, newCount) = (oldCount + 1, newCount + 1)
        case .removed(let text):
          body.append(("-" + text, .removed))
          oldCount += 1
        case .added(let text):
          body.append(("+" + text, .added))
          newCount += 1
        }
      }
      // An empty side is named by the line before it.
      let places = "-\(oldCount == 0 ? oldLine - 1 : oldLine),\(oldCount) +\(newCount == 0 ? newLine - 1 : newLine),\(newCount)"
      result.append(("@@ \(places) @@", .place))
      result += body
      (oldLine, newLine, done) = (oldLine + oldCount, newLine + newCount, hunk.upperBound)
    }
    return result
  }
}
