import Patches
import Testing

@Suite("Differences of texts, line by line")
struct LineDifferenceTests {
  private func unified(_ old: String, _ new: String) -> String {
    LineDifference(from: old, to: new).unified(from: "old", to: "new").map { $0.text + "\n" }.joined()
  }

  @Test("The same text has none")
  func same() {
    #expect(unified("a\nb\n", "a\nb\n") == "")
    #expect(LineDifference(from: "a\n", to: "a\n").isEmpty)
  }
  @Test("A changed line between three lines of context")
  func changed() {
    #expect(
      unified("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n")
        == "--- old\n+++ new\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n")
  }
  @Test("An empty side is named by the line before it")
  func empty() {
    #expect(unified("", "a\nb\n") == "--- old\n+++ new\n@@ -0,0 +1,2 @@\n+a\n+b\n")
    #expect(unified("a\nb\n", "") == "--- old\n+++ new\n@@ -1,2 +0,0 @@\n-a\n-b\n")
  }
  @Test("Changes far apart are hunks of their own, changes close together are one")
  func hunks() {
    let old = (1...30).map { "\($0)\n" }.joined()
    #expect(
      LineDifference(from: old, to: old.replacing("\n3\n", with: "\nx\n").replacing("\n28\n", with: "\ny\n")).unified(from: "", to: "")
        .filter { $0.mark == .place }.map(\.text) == ["@@ -1,6 +1,6 @@", "@@ -25,6 +25,6 @@"])
    #expect(
      LineDifference(from: old, to: old.replacing("\n10\n", with: "\nx\n").replacing("\n15\n", with: "\ny\n")).unified(from: "", to: "")
        .filter { $0.mark == .place }.map(\.text) == ["@@ -7,12 +7,12 @@"])
  }
  @Test("Whatever the texts are, one and the difference give the other, and it is the shortest", arguments: 0..<200)
  func random(seed: Int) {
    var state = UInt64(seed) &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    func next(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let old = (0..<next(12)).map { _ in "\(next(4))" }
    let new = (0..<next(12)).map { _ in "\(next(4))" }
    let difference = LineDifference(from: old.map { $0 + "\n" }.joined(), to: new.map { $0 + "\n" }.joined())
    #expect(difference.lines.compactMap { if case .added = $0 { nil } else { $0.text } } == old)
    #expect(difference.lines.compactMap { if case .removed = $0 { nil } else { $0.text } } == new)
    // The longest common subsequence, the slow way.
    var lengths = [[Int]](repeating: [Int](repeating: 0, count: new.count + 1), count: old.count + 1)
    for i in old.indices {
      for j in new.indices { lengths[i + 1][j + 1] = old[i] == new[j] ? lengths[i][j] + 1 : max(lengths[i][j + 1], lengths[i + 1][j]) }
    }
    #expect(difference.lines.count { if case .same = $0 { true } else { false } } == lengths[old.count][new.count])
  }
  @Test("Texts that differ everywhere are replaced as a whole, without growing memory")
  func hopeless() {
    let old = (0..<5000).map { "a\($0)\n" }.joined()
    let new = (0..<5000).map { "b\($0)\n" }.joined()
    #expect(LineDifference(from: old, to: new).lines.count == 10_000)
  }
}

extension LineDifference.Line {
  fileprivate var text: String {
    switch self {
    case .same(let text), .removed(let text), .added(let text): text
    }
  }
}
