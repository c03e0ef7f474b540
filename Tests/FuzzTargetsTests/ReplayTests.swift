import Foundation
import FuzzTargets
import Testing

/// Every seed and everything that the fuzzer once found, without the fuzzer.
@Suite("Fuzz targets")
struct ReplayTests {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Fuzz").standardizedFileURL

  static func inputs(_ target: FuzzTarget) throws -> [URL] {
    try ["Seeds", "Found"].flatMap { kind in
      let folder = folder.appending(path: "\(kind)/\(target.rawValue)")
      guard FileManager.default.fileExists(atPath: folder.path) else { return [] as [URL] }
      return try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    }.sorted { $0.path < $1.path }
  }

  @Test("Seeds and old findings keep every property", arguments: FuzzTarget.allCases)
  func replay(target: FuzzTarget) throws {
    let inputs = try Self.inputs(target)
    #expect(!inputs.isEmpty, "Fuzz/Seeds/\(target.rawValue) holds no seed")
    for input in inputs {
      let octets = [UInt8](try Data(contentsOf: input))
      do throws(Violation) {
        try target.check(octets)
        // Cut in half, most of them are something that nobody meant.
        try target.check(Array(octets.prefix(octets.count / 2)))
      } catch {
        Issue.record("\(input.path): \(error)")
      }
    }
  }

  @Test("Seeds and findings lie in folders named like targets")
  func folders() throws {
    let names = Set(FuzzTarget.allCases.map(\.rawValue))
    for kind in ["Seeds", "Found"] {
      let found = try FileManager.default.contentsOfDirectory(atPath: Self.folder.appending(path: kind).path)
      #expect(Set(found).subtracting(names).subtracting(["README.md"]).isEmpty, "Fuzz/\(kind): \(found)")
    }
  }
}
