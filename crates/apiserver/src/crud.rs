//! Create, read, update, patch and delete, for every kind alike.
