/// What must not leave the host with its diagnostics: texts under names that mean a secret.
import JSON

enum Secrets {
  static let mark = "(left out)"
  private static let words = ["password", "passwd", "secret", "token", "privatekey", "private_key", "credential", "apikey"]

  static func isSecret(_ name: String) -> Bool {
    let lower = name.lowercased().filter { $0 != "-" }
    return words.contains { lower.contains($0) }
  }

  /// The value without its secrets, and the path of each that was left out. A reference to a secret (`secretKeyRef`) names one and is none.
  static func removed(from value: JSONValue, at path: JSONPath = JSONPath()) -> (value: JSONValue, left: [JSONPath]) {
    switch value {
    case .array(let elements):
      let parts = elements.enumerated().map { removed(from: $0.element, at: path.element($0.offset)) }
      return (.array(parts.map(\.value)), parts.flatMap(\.left))
    case .object(let object):
      var members: [JSONObject.Member] = []
      var left: [JSONPath] = []
      for member in object.members {
        let inner = path.member(member.name)
        if member.value.string != nil, isSecret(member.name) {
          members.append(JSONObject.Member(member.name, .string(mark)))
          left.append(inner)
        } else {
          let part = removed(from: member.value, at: inner)
          members.append(JSONObject.Member(member.name, part.value))
          left += part.left
        }
      }
      return (.object(JSONObject(members)), left)
    default: return (value, [])
    }
  }

  /// `http://user:word@host` without the user.
  static func removed(fromAddress text: String) -> String {
    guard let at = text.lastIndex(of: "@"), let slashes = text.firstRange(of: "://") else { return text.contains("@") ? mark : text }
    return text[..<slashes.upperBound] + mark + text[at...]
  }
}
