/// What programs read of the data model: the names of properties in all sources but those that define and spell the model.
import Sockets

enum Programs {
  /// Fields whose Swift property has another name.
  static let properties = [
    "protocol": "ipProtocol", "apiVersion": "kind", "allowedIps": "allowedIPs",
  ]
  static func read(_ field: String) -> Bool {
    let name = (field.split(separator: ".").last { !$0.contains("\"") } ?? "").prefix { $0 != "[" }
    return words.contains(properties[String(name)] ?? String(name))
  }

  private static let words: Set<String> = {
    var words: Set<String> = []
    let sources = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" } + "/Sources"
    func scan(_ folder: String) {
      for name in (try? Files.list(folder)) ?? [] {
        let path = "\(folder)/\(name)"
        if path.hasSuffix("/Resources") || path.hasSuffix("/Documents") { continue }
        if Files.isDirectory(path) { scan(path) }
        guard name.hasSuffix(".swift"), let text = try? Files.readText(path) else { continue }
        for part in text.utf8.split(separator: UInt8(ascii: ".")).dropFirst() {
          let word = part.prefix { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
          }
          words.insert(String(decoding: word, as: UTF8.self))
        }
      }
    }
    scan(sources)
    return words
  }()
}
