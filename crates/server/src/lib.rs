//! The agent's health endpoint and its local view socket.
