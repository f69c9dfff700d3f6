//! Starting and stopping the API server.
